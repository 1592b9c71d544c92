"""Makes the bundled task set ``starter``; ``python -m tests.canary.starter_tasks`` prints it."""

import json
import random

LETTERS = "ABCD"
NAMES = ("Ana", "Ben", "Chen", "Dina", "Emil", "Fatou", "Goran", "Hana", "Ivo", "Jana")
THINGS = ("apples", "books", "candles", "plates", "stamps", "tickets", "bottles", "cards", "nails", "seeds")

CHOICES = (
    ("Which planet is closest to the Sun?", "Mercury", "Venus", "Mars", "Jupiter"),
    ("Which gas do plants take in to make sugar?", "Carbon dioxide", "Oxygen", "Helium", "Neon"),
    ("How many sides does a hexagon have?", "6", "5", "7", "8"),
    ("Which of these is a mammal?", "Dolphin", "Shark", "Trout", "Penguin"),
    ("In which direction does a compass needle point?", "North", "East", "Up", "West"),
    ("Which of these is the largest ocean?", "Pacific", "Atlantic", "Indian", "Arctic"),
    ("What freezes at 0 degrees Celsius?", "Water", "Iron", "Alcohol", "Salt"),
    ("Which organ pumps blood?", "The heart", "The liver", "The lung", "The stomach"),
    ("How many days does a leap year have?", "366", "365", "364", "360"),
    ("Which of these is a prime number?", "13", "15", "21", "27"),
    ("Which metal is liquid at room temperature?", "Mercury", "Copper", "Lead", "Silver"),
    ("Which language is mainly spoken in Brazil?", "Portuguese", "Spanish", "French", "Italian"),
    ("What is the chemical formula of water?", "H2O", "CO2", "NaCl", "O2"),
    ("Which of these animals lays eggs?", "Hen", "Cow", "Horse", "Dog"),
    ("Who wrote the play Hamlet?", "William Shakespeare", "Johann Wolfgang von Goethe", "Homer", "Leo Tolstoy"),
    ("How many minutes are two hours?", "120", "100", "90", "60"),
    ("Which instrument has black and white keys?", "Piano", "Violin", "Drum", "Flute"),
    ("Which season follows winter?", "Spring", "Summer", "Autumn", "Winter"),
    ("Which of these is not a colour?", "Loud", "Green", "Blue", "Yellow"),
    ("Which part of a plant is usually under the ground?", "The root", "The flower", "The leaf", "The fruit"),
    ("What do bees make?", "Honey", "Milk", "Silk", "Wool"),
    ("On which continent is Egypt?", "Africa", "Europe", "South America", "Australia"),
    ("How many letters has the English alphabet?", "26", "24", "28", "30"),
    ("What does a thermometer measure?", "Temperature", "Weight", "Distance", "Speed"),
    ("Which is the fastest?", "Light", "Sound", "A train", "A snail"),
    ("Which of these is a programming language?", "Python", "Danish", "Esperanto", "Latin"),
    ("What is the opposite of 'ancient'?", "Modern", "Old", "Slow", "Cold"),
    ("Which unit measures electric current?", "Ampere", "Litre", "Metre", "Kilogram"),
    ("Which shape has no corners?", "Circle", "Square", "Triangle", "Rectangle"),
    ("What is the square root of 81?", "9", "8", "7", "6"),
    ("Which of these falls from clouds?", "Rain", "Sand", "Leaves", "Coins"),
    ("Which bird cannot fly?", "Ostrich", "Eagle", "Swallow", "Gull"),
    ("How many wheels has a bicycle?", "2", "3", "4", "1"),
    ("What is a baby cat called?", "Kitten", "Puppy", "Calf", "Foal"),
    ("Which of these is a fruit?", "Banana", "Carrot", "Potato", "Onion"),
    ("Which number is even?", "14", "7", "9", "11"),
)
CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "China": "Beijing",
    "Egypt": "Cairo", "Greece": "Athens", "Portugal": "Lisbon", "Poland": "Warsaw", "Austria": "Vienna",
    "Russia": "Moscow", "Norway": "Oslo", "Sweden": "Stockholm", "Ireland": "Dublin", "Hungary": "Budapest",
    "Canada": "Ottawa", "Cuba": "Havana", "Argentina": "Buenos Aires", "Thailand": "Bangkok",
}  # fmt: skip
WORDS = ("river", "garden", "window", "market", "summer", "bridge", "letter", "yellow", "stone", "paper")
MONTHS = ("January", "March", "May", "June", "August", "October", "November", "December")
NUMBERS = {"January": 1, "March": 3, "May": 5, "June": 6, "August": 8, "October": 10, "November": 11, "December": 12}
TOWNS = ("Lima", "Oslo", "Accra", "Hanoi", "Quito", "Sofia", "Turin", "Kyoto")


def chat(kind, number, question, answer, grader, max_tokens=16, **further):
    messages = [{"role": "user", "content": question}]
    task = {"id": f"{kind}-{number:02}", "messages": messages, "answer": answer, "grader": grader}
    return {**task, "max_tokens": max_tokens, **further}


def word_problems(luck):
    forms = (
        ("{name} has {a} {things} and buys {b} more. How many {things} are there now?", lambda a, b: a + b),
        ("{name} had {total} {things} and gave {b} of them away. How many {things} are left?", lambda a, _: a),
        ("{name} fills {a} boxes with {b} {things} each. How many {things} are there in all?", lambda a, b: a * b),
        ("{name} shares {product} {things} equally among {b} people. How many {things} does each get?", lambda a, _: a),
    )
    for number in range(40):
        form, solved = forms[number % len(forms)]
        a, b = luck.randint(3, 19), luck.randint(2, 9)
        asked = form.format(name=luck.choice(NAMES), things=luck.choice(THINGS), a=a, b=b, total=a + b, product=a * b)
        yield chat("sum", number, f"{asked} Answer with the number alone.", str(solved(a, b)), "numeric", 64)


def choices(luck):
    for number, (question, right, *wrong) in enumerate(CHOICES):
        offered = luck.sample([right, *wrong], 4)
        listed = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, offered, strict=True))
        asked = f"{question}\n{listed}\nAnswer with the letter alone."
        yield chat("choice", number, asked, LETTERS[offered.index(right)], "multiple_choice")


def capitals():
    for number, (country, city) in enumerate(CAPITALS.items()):
        asked = f"What is the capital of {country}? Answer with the name of the city alone."
        yield chat("capital", number, asked, rf"(?i)\b{city}\b", "regex")


def formats(luck):
    for number, word in enumerate(WORDS):
        asked = f"Write the word '{word}' in capital letters. Write nothing else."
        yield chat("capitals", number, asked, word.upper(), "exact")
    for number, month in enumerate(MONTHS):
        day, year = luck.randint(10, 28), luck.randint(1980, 2020)
        asked = f"Write the date {day} {month} {year} in the form YYYY-MM-DD. Write nothing else."
        yield chat("date", number, asked, rf"\b{year}-{NUMBERS[month]:02}-{day}\b", "regex")
    for number in range(8):
        some = luck.sample(WORDS, 3)
        asked = f"Write these words in the order of the alphabet, with commas between them: {', '.join(some)}."
        yield chat("order", number, asked, r"(?i)" + r"\W+".join(sorted(some)), "regex", 24)


def objects(luck):
    for number in range(16):
        name, age, town = luck.choice(NAMES), luck.randint(18, 80), luck.choice(TOWNS)
        asked = (
            f"{name} is {age} years old and lives in {town}. Write this as one JSON object with the keys name, age "
            "(a number) and town. Write only the JSON."
        )
        wanted = {"name": name, "age": age, "town": town}
        schema = {
            "type": "object",
            "properties": {key: {"const": value} for key, value in wanted.items()},
            "required": list(wanted),
            "additionalProperties": False,
        }
        yield chat("person", number, asked, schema, "json_schema", 64)
    for number in range(8):
        some = luck.sample(THINGS, 3)
        asked = f"Write a JSON array of these three words as strings: {', '.join(some)}. Write only the JSON."
        yield chat("list", number, asked, {"const": some}, "json_schema", 48)


def tasks():
    luck = random.Random(20261125)  # noqa: S311 - not a secret
    return [*word_problems(luck), *choices(luck), *capitals(), *formats(luck), *objects(luck)]


def text():
    return "".join(f"{json.dumps(task, ensure_ascii=False)}\n" for task in tasks())


if __name__ == "__main__":
    print(text(), end="")
