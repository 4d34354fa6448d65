"""How good written texts are, as far as numbers tell. Each from the new tokens of several texts, without prompts."""

from collections.abc import Sequence

Tokens = Sequence[int]


def ngrams(tokens: Tokens, n: int) -> list[tuple[int, ...]]:
    """All sequences of n neighbouring tokens, in order."""
    return [tuple(tokens[place : place + n]) for place in range(len(tokens) - n + 1)]


def distinct(texts: Sequence[Tokens], n: int) -> float:
    """Different n-grams / n-grams, over all texts together: 0 to 1, higher is more varied (Li et al. 2016, distinct-n).

    0 where no text has n tokens. It falls with length: compare texts of equal length.
    """
    found = [ngram for tokens in texts for ngram in ngrams(tokens, n)]
    return len(set(found)) / len(found) if found else 0.0


def repetition(texts: Sequence[Tokens], n: int = 4) -> float:
    """Mean over texts of 1 - different n-grams / n-grams of that text: 0 to 1, lower is better.

    Welleck et al. 2020 (Neural Text Generation with Unlikelihood Training), seq-rep-4. A text of fewer than n tokens
    repeats nothing.
    """
    rates = []
    for tokens in texts:
        found = ngrams(tokens, n)
        rates.append(1 - len(set(found)) / len(found) if found else 0.0)
    return sum(rates) / len(rates)
