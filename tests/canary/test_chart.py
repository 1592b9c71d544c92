from xml.etree import ElementTree as ET

from llm_rollout.canary import chart

SVG = "{http://www.w3.org/2000/svg}"


def test_a_line_for_each_metric_and_threshold():
    drawn = chart.draw({"errors": [1, 20, 400], "a<b": [0.5, 1e-9, 1e9]}, {"roll back": 20}, "rounds of 50 pairs")
    picture = ET.fromstring(drawn)  # noqa: S314 - ours

    lines = picture.findall(f"{SVG}polyline")
    assert [len(each.get("points").split()) for each in lines] == [4, 4]
    assert "roll back at 20" in [each.text for each in picture.iter(f"{SVG}text")]
    assert "a<b" in [each.text for each in picture.iter(f"{SVG}text")]


def test_wealth_at_the_threshold_lies_on_its_line_and_all_of_it_in_the_picture():
    picture = ET.fromstring(chart.draw({"errors": [20, 1e300, 0]}, {"roll back": 20}, "rounds of 50 pairs"))  # noqa: S314 - ours

    threshold = next(each for each in picture.iter(f"{SVG}line") if each.get("class") == "threshold")
    heights = [float(point.split(",")[1]) for point in picture.find(f"{SVG}polyline").get("points").split()]
    assert heights[1] == float(threshold.get("y1"))
    assert 0 <= min(heights) <= max(heights) <= 360


def test_no_rounds_yet():
    assert ET.fromstring(chart.draw({}, {"roll back": 20}, "rounds of 50 pairs")) is not None  # noqa: S314 - ours
