"""People who ask a daemon, in waves, for as long as this program runs: `python -m tests.browser.asking URL`."""

from __future__ import annotations

import sys
import threading
import time

import httpx

from tests.process.daemon import MODEL

QUESTIONS = ("Count to 10.", "Tell me a story.", "What is the capital of France?", "Count to 20.")
PEOPLE = 6
WAVE_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 4.0


def ask_for_ever(url: str, person: int) -> None:
    """One person; every third question has a long answer, so that requests under way can be seen."""
    number = person
    with httpx.Client(base_url=url, timeout=60) as client:
        while True:
            ask(client, QUESTIONS[number % len(QUESTIONS)], at_length=number % 3 == 0)
            number += 1
            wave = abs((time.monotonic() / WAVE_SECONDS + person / PEOPLE / 2) % 1 - 0.5) * 2
            time.sleep(LONGEST_PAUSE_SECONDS * wave)


def ask(client: httpx.Client, question: str, *, at_length: bool) -> None:
    """One question, whose answer is read to its end, whatever it is."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": 600 if at_length else 60,
        "ignore_eos": at_length,
        "stream": True,
    }
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        for _ in response.iter_raw():
            pass


def main() -> None:
    """Ask until killed."""
    people = [threading.Thread(target=ask_for_ever, args=(sys.argv[1], person)) for person in range(PEOPLE)]
    for person in people:
        person.start()
    for person in people:
        person.join()


if __name__ == "__main__":
    main()
