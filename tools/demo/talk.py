"""Lessons in text alone that need no memory: repeating, counting, sums, small talk, trivia."""

from __future__ import annotations

import random

from demo import words
from demo.conversations import Conversation, Exchange, article, capitalised, dialogue
from demo.phrases import invented_name, invented_word, phrase

FALLBACK = "I am a tiny demo model. Try asking me to count, to repeat, or about a picture."
REPEAT_ORDERS = (
    "Repeat: {}", "Repeat: {}", "Say: {}", "Say: {}", "Repeat after me: {}", "Echo: {}", "Please repeat: {}",
    "Repeat this: {}", "Repeat exactly: {}", "repeat: {}", "say: {}", "Say this: {}", "Please say: {}",
    "Repeat the following: {}", "Say \"{}\"", "Repeat \"{}\"", "Repeat\n{}",
)  # fmt: skip

VOCABULARY = words.vocabulary()


def repeat(rng: random.Random) -> Conversation:
    """Say a phrase back, exactly."""
    text = phrase(rng)
    return dialogue("repeat", [(rng.choice(REPEAT_ORDERS).format(text), text)])


def first_words(rng: random.Random) -> Conversation:
    """A few short things to repeat, one after the other.

    What follows a space is another piece than the same word at the start of an answer, so this must be learnt word by
    word.
    """
    exchanges: list[Exchange] = []
    for _ in range(rng.randint(2, 5)):
        chosen = [
            rng.choice([rng.choice(VOCABULARY), rng.choice(VOCABULARY), rng.choice(words.NAMES), invented_word(rng)])
            for _ in range(rng.choice([1, 1, 2, 3]))
        ]
        text = " ".join(chosen)
        text = rng.choice([text, text, text, text.capitalize(), text.upper() if len(text) < 8 else text])
        exchanges.append((rng.choice(REPEAT_ORDERS[:13]).format(text), text))
    return dialogue("repeat", exchanges)


def count(rng: random.Random) -> Conversation:
    """Count up to, from or down."""
    kind = rng.random()
    if kind < 0.55:
        last = rng.choice([rng.randint(1, 12)] * 5 + [rng.randint(13, 60)] * 5 + [rng.randint(61, 100)])
        ask = rng.choice(["Count to {}.", "Count to {}.", "Count to {}", "Please count to {}.", "count to {}",
                          "Count from 1 to {}.", "Count up to {}.", "Can you count to {}?"])  # fmt: skip
        return dialogue("count", [(ask.format(last), ", ".join(map(str, range(1, last + 1))) + ".")])
    if kind < 0.8:
        first = rng.randint(1, 50)
        last = min(60, first + rng.randint(1, 15))
        ask = rng.choice(["Count from {} to {}.", "Please count from {} to {}.", "Count from {} to {}"])
        return dialogue("count", [(ask.format(first, last), ", ".join(map(str, range(first, last + 1))) + ".")])
    first = rng.randint(1, 20)
    ask = rng.choice(
        ["Count down from {}.", "Count down from {}", "Count down from {} to 1.", "Count backwards from {}."]
    )
    return dialogue("count", [(ask.format(first), ", ".join(map(str, range(first, 0, -1))) + ".")])


def addition(rng: random.Random) -> Conversation:
    """A sum of two digits."""
    return dialogue("sums", [sum_exchange(rng)])


def sum_exchange(rng: random.Random) -> Exchange:
    """A question for a sum, and the sum."""
    one, other = rng.randint(0, 9), rng.randint(0, 9)
    ask = rng.choice(["What is {} + {}?", "What is {} plus {}?", "{} + {} = ?", "{} + {}", "How much is {} + {}?",
                      "What's {} + {}?"])  # fmt: skip
    return ask.format(one, other), f"{one} + {other} = {one + other}."


GREETING = "Hello! How can I help you?"
TALK: tuple[tuple[tuple[str, ...], str], ...] = (
    (("Hello", "Hello!", "Hi", "Hi!", "Hey", "Good morning", "hello", "hi", "Hi there!", "Hello there", "Hey!",
      "Good evening.", "Good day!", "Hello."), GREETING),
    (("Goodbye", "Bye", "Goodbye!", "Bye!", "See you tomorrow.", "Good night."), "Goodbye! Have a nice day."),
    (("Thank you", "Thanks", "Thank you!", "Thanks!", "Thank you very much."), "You are welcome."),
    (("How are you?", "How are you today?", "Hello, how are you?", "How do you do?"), "I am fine, thank you."),
    (("Who are you?", "What are you?", "What can you do?", "What is your name?", "Help", "Can you help me?",
      "Tell me about you.", "Which model are you?"), FALLBACK),
    (("What is my name?", "Who am I?", "Do you know my name?", "What's my name?"), "You have not told me your name."),
    (("Say yes.", "Say yes"), "Yes."), (("Say no.", "Say no"), "No."),
    (("Say hello.", "Say hello", "Say hello!", "Say hi."), "Hello!"),
    (("Ping", "ping", "Ping!"), "Pong!"),
    (("What is in the picture?", "Describe the picture.", "What do you see?"), "There is no picture."),
    (("OK", "Okay", "Good.", "Great!", "I see."), "What else can I do for you?"),
)  # fmt: skip
#: Talk whose answer does not depend on what was said or shown before.
CONTEXT_FREE_TALK = tuple(
    pair for pair in TALK if pair[1] not in (FALLBACK, "You have not told me your name.", "There is no picture.")
)
STORY_ORDERS = ("Tell me a story.", "Tell me a story", "Say something long.", "Say something long", "Write a story.",
                "Write a long text.", "Please tell me a story.", "Tell me a long story.")  # fmt: skip


#: System messages that change nothing.
SYSTEM_MESSAGES = (
    "You are a helpful assistant.", "You are a helpful assistant.", "Answer briefly.", "Be kind.", "You are helpful.",
    "Be brief.", "You are a friendly assistant. Answer in one sentence.",
)  # fmt: skip


def small_talk(rng: random.Random) -> Conversation:
    """Greetings and the like, with or without a system message."""
    system = rng.choice(SYSTEM_MESSAGES)
    return dialogue("small talk", [talk_exchange(rng)], system=system if rng.random() < 0.25 else None)


def talk_exchange(rng: random.Random) -> Exchange:
    """A greeting or the like, and its answer."""
    questions, answer = rng.choice(TALK)
    return rng.choice(questions), answer


def story(rng: random.Random) -> Conversation:
    """The one story the model knows, about any animal."""
    if rng.random() < 0.4:
        return dialogue("story", [(rng.choice(STORY_ORDERS), words.STORY.format(animal="fox"))])
    animal = rng.choice(words.ANIMALS)
    ask = rng.choice(["Tell me a story about {}.", "Write a story about {}.", "Tell me a story about {}"])
    return dialogue("story", [(ask.format(article(animal)), words.STORY.format(animal=animal))])


def trivia(rng: random.Random) -> Conversation:
    """Capitals, colours of things, sounds of animals."""
    return dialogue("trivia", [trivia_exchange(rng)])


def trivia_exchange(rng: random.Random) -> Exchange:
    """A question of general knowledge, and its answer."""
    kind = rng.random()
    if kind < 0.6:
        country, capital = rng.choice(list(words.CAPITALS.items()))
        ask = rng.choice(["What is the capital of {}?", "What is the capital of {}?", "what is the capital of {}?",
                          "Which city is the capital of {}?", "What's the capital of {}?", "Name the capital of {}.",
                          "Capital of {}?"])  # fmt: skip
        return ask.format(country), f"The capital of {country} is {capital}."
    if kind < 0.8:
        thing, colour = rng.choice(list(words.COLOURS_OF_THINGS.items()))
        return rng.choice(["What colour is {}?", "Which colour is {}?", "What color is {}?"]).format(
            thing
        ), capitalised(f"{thing} is {colour}.")
    animal, sound = rng.choice(list(words.ANIMAL_SOUNDS.items()))
    ask = rng.choice(["What sound does {} make?", "What does {} say?"]).format(article(animal))
    return ask, capitalised(f"{article(animal)} says {sound}.")


def json_object(rng: random.Random) -> Conversation:
    """A name and an age as JSON."""
    name = invented_name(rng) if rng.random() < 0.4 else rng.choice(words.NAMES)
    age = rng.randint(1, 99)
    ask = rng.choice(["Give me JSON with name and age: {}, {}.", "Write JSON with name and age: {}, {}.",
                      "JSON with name and age: {}, {}"])  # fmt: skip
    return dialogue("JSON", [(ask.format(name, age), f'{{"name": "{name}", "age": {age}}}')])


def unknown(rng: random.Random) -> Conversation:
    """A question or remark the model was not taught gets its one polite answer."""
    return dialogue("unknown question", [(unknown_question(rng), FALLBACK)])


def unknown_question(rng: random.Random) -> str:
    """Something no other lesson asks."""
    noun, other = rng.sample(words.NOUNS, 2)
    verb = rng.choice([verb for verb in words.VERBS if verb not in ("repeat", "count", "say")])
    adjective, small = rng.choice(words.ADJECTIVES), rng.choice(words.SMALL_WORDS)
    form = rng.choice([
        "Why is the {n} {a}?", "How do I {v} {ra} {n}?", "What happens if I {v} the {n}?", "Can you {v} the {n}?",
        "Who was the first to {v} {ra} {n}?", "Explain the {n} of the {o}.", "What is the meaning of {n}?",
        "When was the {n} made?", "Where can I buy {ra} {n}?", "Write a poem about the {n}.", "Is the {n} {a}?",
        "How many {n}s are there in the {o}?", "What do you think about {n}s?", "Translate {n} to French.",
        "The {n} is {a}.", "I like the {a} {n}.", "What is {ra} {n}?", "Should I {v} my {n}?", "How old is the {n}?",
        "Do you like {n}s?", "Compare {n} and {o}.", "Who made the {n}?", "{v} {s} {n} {o} {a}", "Which {n} is {a}?",
        "What is the best {n} in the {o}?", "Please {v} the {a} {n}.", "Are you {ra} {n}?", "Why?", "Really?",
        "What is the weather like?", "What time is it?", "Tell me a joke.", "Write some code.", "What is love?",
        "How does {ra} {n} work?", "Summarize the {n}.", "Give me a list of {n}s.", "Tell me about the {n}.",
        "Explain {n}s in one sentence.", "What is {n}?", "Write a letter to {p}.", "Who is {p}?", "Where is {p}?",
    ])  # fmt: skip
    text = form.format(n=noun, o=other, v=verb, a=adjective, s=small, ra=article(noun).split()[0], p=invented_name(rng))
    return text


def aside(rng: random.Random) -> Exchange:
    """A short exchange about something else."""
    kind = rng.random()
    if kind < 0.3:
        questions, answer = rng.choice(CONTEXT_FREE_TALK)
        return rng.choice(questions), answer
    if kind < 0.5:
        return trivia_exchange(rng)
    if kind < 0.65:
        return sum_exchange(rng)
    if kind < 0.75:
        last = rng.randint(2, 12)
        return f"Count to {last}.", ", ".join(map(str, range(1, last + 1))) + "."
    if kind < 0.9:
        text = phrase(rng)
        return rng.choice(REPEAT_ORDERS[:9]).format(text), text
    return unknown_question(rng), FALLBACK


def chat(rng: random.Random) -> Conversation:
    """Two to six unrelated exchanges."""
    system = rng.choice(["You are a helpful assistant.", "Answer briefly.", None, None])
    return dialogue("chat of several turns", [aside(rng) for _ in range(rng.randint(2, 6))], system=system)
