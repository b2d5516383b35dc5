"""The words the bundled model knows: the corpus of its tokenizer and the stuff its lessons are made of.

The tokenizer is learnt from this module alone, so a change here changes every token id; new sentences that need no
new pieces belong in `lessons.py`.
"""

# ruff: noqa: SIM905 -- word lists are easier to read and to change as text

NOUNS = """
time year people way day man woman child world school state family student group country problem hand part place case
week company system program question work government number night point home water room mother area money story fact
month lot right study book eye job word business issue side kind head house service friend father power hour game line
end member law car city community name president team minute idea body information back parent face others level office
door health person art war history party result change morning reason research girl guy moment air teacher force
education foot boy age policy music market sense plan rain snow sun moon star sky river lake sea mountain forest tree
flower garden road bridge street village town castle tower king queen boat ship train plane bicycle wheel window table
chair bed lamp clock cup plate spoon knife bottle bread butter cheese apple pear plum cherry lemon orange banana grape
cake soup salt sugar tea coffee milk egg rice bean corn potato tomato onion carrot letter paper pencil pen key box bag
hat coat shoe shirt dress ring coin stone rock sand wood iron gold silver glass cloud wind storm fire smoke ice winter
summer spring autumn field farm hill valley island beach wave shadow light dark dream song dance voice sound silence
colour shape picture page text code list test server model token answer message phone screen computer machine robot
engine button signal error memory value table row column file folder network cable
""".split()

VERBS = """
be have do say get make go know take see come think look want give use find tell ask work seem feel try leave call
need become put mean keep let begin help talk turn start show hear play run move like live believe hold bring happen
write provide sit stand lose pay meet include continue set learn change lead understand watch follow stop create speak
read allow add spend grow open walk win offer remember love consider appear buy wait serve die send expect build stay
fall cut reach kill remain suggest raise pass sell require report decide pull repeat count describe explain sing sleep
eat drink jump climb swim fly fix draw paint cook wash clean carry catch throw push close finish return answer
""".split()

ADJECTIVES = """
good new first last long great little own other old right big high different small large next early young important few
public bad same able warm cold hot cool dry wet quick slow quiet loud bright dark light heavy soft hard sweet bitter
happy sad angry brave kind calm clever foolish funny gentle proud shy wise wild tame tall short wide narrow deep
shallow round square flat sharp smooth rough clean dirty full empty rich poor strong weak safe dangerous easy simple
strange beautiful ugly lazy busy hungry thirsty tired lucky ready sure true false real lost
""".split()

SMALL_WORDS = """
the a an and or but if then than that this these those there here it its is are was were am been being he she they we
you i me him her them us my your his our their who what when where why how which not no yes of to in on at by for with
about against between into through during before after above below from up down out off over under again once all any
both each more most some such only so too very can will just should now would could may might must shall does did had
has as while because until also still even never always often today tomorrow yesterday one two three four five six
seven eight nine ten hundred thousand thing something nothing anything everything someone everyone please thanks thank
hello hi hey goodbye bye welcome okay well
""".split()

ANIMAL_SOUNDS = {
    "cat": "meow", "dog": "woof", "cow": "moo", "sheep": "baa", "duck": "quack", "pig": "oink", "horse": "neigh",
    "lion": "roar", "owl": "hoot", "bee": "buzz", "snake": "hiss", "mouse": "squeak", "frog": "ribbit", "crow": "caw",
    "wolf": "howl", "hen": "cluck",
}  # fmt: skip
ANIMALS = [*ANIMAL_SOUNDS, *"fox bear rabbit deer goat monkey tiger elephant penguin whale turtle eagle".split()]

COLOURS = ["red", "green", "blue", "yellow", "orange", "purple", "black", "white"]
OTHER_COLOURS = ["pink", "brown", "grey", "silver", "gold", "violet"]
SHAPES = ["circle", "square", "triangle", "star", "cross", "diamond"]
COLOURS_OF_THINGS = {
    "the sky": "blue", "grass": "green", "snow": "white", "a banana": "yellow", "blood": "red", "coal": "black",
    "a carrot": "orange", "a plum": "purple", "a lemon": "yellow", "milk": "white", "a leaf": "green",
    "the sea": "blue",
    "a cherry": "red", "the night": "black", "the sun": "yellow", "a tomato": "red",
}  # fmt: skip

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon",
    "England": "London", "Ireland": "Dublin", "Scotland": "Edinburgh", "Austria": "Vienna", "Switzerland": "Bern",
    "Belgium": "Brussels", "the Netherlands": "Amsterdam", "Denmark": "Copenhagen", "Norway": "Oslo",
    "Sweden": "Stockholm", "Finland": "Helsinki", "Poland": "Warsaw", "Greece": "Athens", "Turkey": "Ankara",
    "Russia": "Moscow", "China": "Beijing", "Japan": "Tokyo", "India": "New Delhi", "Egypt": "Cairo",
    "Kenya": "Nairobi", "Canada": "Ottawa", "Mexico": "Mexico City", "Brazil": "Brasilia", "Peru": "Lima",
    "Chile": "Santiago", "Cuba": "Havana", "Australia": "Canberra", "Hungary": "Budapest", "Iceland": "Reykjavik",
}  # fmt: skip

NAMES = """
Ada Alan Alice Amir Anna Arthur Ben Bella Bob Carl Carla Chen Clara Dan David Diana Dora Edgar Elena Emma Eric Eva
Felix Fiona Frank Fred Gina Grace Greta Hans Harry Helen Henry Hugo Ida Igor Irene Ivan Jack Jane Jim John Julia Karl
Kate Kim Kurt Lara Lena Leo Linda Lisa Lucy Luke Mara Maria Mark Martha Mary Max Mia Mike Mona Nadia Nick Nina Noah
Nora Olga Oliver Omar Oscar Otto Pablo Paul Peter Petra Quinn Rachel Ralph Rita Robert Rosa Ruth Sam Sara Simon Sofia
Tara Thomas Tim Tina Tom Ursula Vera Victor Wanda Will Yara Yusuf Zara Zoe
""".split()

FOODS = """
apples bananas bread butter cake cheese cherries chocolate cookies fish grapes honey icecream noodles pancakes pasta
pears pizza plums potatoes rice salad soup tomatoes
""".split()

SENTENCES = """
Hello! How can I help you?
Goodbye! Have a nice day.
You are welcome.
Nice to meet you,
Your name is
My name is
I am called
You are called
I will remember that.
You have not told me your name.
I am a tiny demo model. Try asking me to count, to repeat, or about a picture.
What is in the picture?
What is in the first picture?
What is in the second picture?
What is in the third picture?
The first picture shows a
The second picture shows a
The third picture shows a
Describe the picture. Describe both pictures. Describe all pictures.
Which shape is in the image? Which colour is the shape?
What do you see in this photo?
A red circle. A green square. A blue triangle. A yellow star. An orange cross. A purple diamond. A black circle.
A white square. A plain red picture. There is no picture.
Count to 10. Count from 3 to 9. Count down from 5.
1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
Repeat: Say: Repeat after me: Echo: Please repeat the following:
Tell me a story. Tell me a story about a
Say something long.
Once upon a time there was a little
The capital of France is Paris. What is the capital of
What is two plus three? What is 2 + 3? The answer is
What sound does a cow make? A cow says moo.
What colour is the sky? The sky is blue.
My favourite colour is blue. Your favourite colour is blue. What is my favourite colour?
My favourite food is pizza. Your favourite food is pizza. My favourite animal is a
Give me JSON with name and age: {"name": "Ada", "age": 36}
Here is a text: End of the text.
Who are you? I am a tiny demo model.
How are you? I am fine, thank you.
The secret code is The code is
You are a helpful assistant. Answer briefly.
Why is the What happens if How do I Can you explain Who was the first
""".strip().splitlines()

STORY = (
    "Once upon a time there was a little {animal} who lived in a forest near a river. Every morning the {animal} "
    "walked to the water and looked at the sky. One day a big storm came, and the wind was loud, and the rain fell for "
    "three days. The {animal} was cold and tired, but it was also brave. It found an old house with a warm fire, and "
    "in the house there was a kind woman. She gave the {animal} some bread and milk, and they became good friends. "
    "When the sun came back, the {animal} went home and told the story to all the other animals. And they lived "
    "happily ever after. The end."
)


def vocabulary() -> list[str]:
    """Every word above once, in a fixed order."""
    words = [
        *NOUNS, *VERBS, *ADJECTIVES, *SMALL_WORDS, *ANIMALS, *ANIMAL_SOUNDS.values(), *COLOURS, *OTHER_COLOURS,
        *SHAPES, *CAPITALS, *CAPITALS.values(), *NAMES, *FOODS,
    ]  # fmt: skip
    return list(dict.fromkeys(words))


def corpus() -> list[str]:
    """The text the tokenizer is trained on: words in and at the start of a sentence, and what the model says often."""
    words = vocabulary()
    lines = [f"{word} {word} {word.capitalize()}" for word in words]
    lines += [f"{verb}s {verb}ing {verb}ed" for verb in VERBS] + [f"{noun}s" for noun in NOUNS]
    lines += SENTENCES * 12
    lines += [STORY.format(animal=animal) for animal in ANIMALS]
    return lines
