from xml.etree import ElementTree as ET

from llm_rollout.canary import chart
from llm_rollout.canary.chart import Panel

SVG = "{http://www.w3.org/2000/svg}"
WORSE = Panel("Worse", {"errors": [1, 20, 400], "a<b": [0.5, 1e-9, 1e9]}, {"roll back at": 20})


def read(text):
    return ET.fromstring(text)  # noqa: S314 - ours


def points(line):
    return [tuple(map(float, point.split(","))) for point in line.get("points").split()]


def test_a_line_for_each_metric_and_threshold():
    picture = read(chart.draw([WORSE], [1, 2, 3], "rounds of 50 pairs"))

    words = [each.text for each in picture.iter(f"{SVG}text")]
    assert [len(points(each)) for each in picture.iter(f"{SVG}polyline")] == [4, 4]
    assert {"Worse", "roll back at 20", "a<b", "3 rounds of 50 pairs"} <= set(words)


def test_wealth_at_the_threshold_lies_on_its_line_and_all_of_it_in_the_picture():
    picture = read(chart.draw([Panel("Worse", {"errors": [20, 1e300, 0]}, {"at": 20})], [1, 2, 3], "rounds"))

    threshold = next(each for each in picture.iter(f"{SVG}line") if each.get("class") == "threshold")
    heights = [height for _, height in points(next(picture.iter(f"{SVG}polyline")))]
    assert heights[1] == float(threshold.get("y1"))
    assert 0 <= min(heights) <= max(heights) <= 360


def test_rounds_that_were_left_out_leave_their_place():
    picture = read(chart.draw([Panel("Worse", {"errors": [1, 1, 1]}, {})], [2, 4, 8], "rounds"))

    start, second, fourth, eighth = (x for x, _ in points(next(picture.iter(f"{SVG}polyline"))))
    assert fourth - second == second - start
    assert eighth - fourth == fourth - start


def test_panels_lie_below_one_another():
    picture = read(chart.draw([WORSE, WORSE], [1, 2, 3], "rounds"))

    assert [each.get("transform") for each in picture.findall(f"{SVG}g")] == ["translate(0 0)", "translate(0 360)"]
    assert picture.get("viewBox").endswith(" 720")


def test_no_rounds_yet():
    assert read(chart.draw([Panel("Worse", {}, {"at": 20})], [], "rounds of 50 pairs")) is not None
