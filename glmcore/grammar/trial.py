"""Compiles a grammar in a process of its own, which has so much time and memory and no more: what a schema costs cannot
be seen from it, and what it runs into cannot be stopped in a thread.

Reads the grammar from standard input and writes what is wrong with it, nothing where it is sound. Its argument is the
number of tokens, which the grammar may name. Standard library and llguidance only.
"""

import sys

SECONDS, BYTES = 3, 2 << 30


class Letters:
    """A vocabulary of single bytes, in the place of the model's, which takes longer to read."""

    bos_token_id = None
    special_token_ids = ()

    def __init__(self, size):
        self.tokens = [bytes([value]) for value in range(256)] + [b""] * (size - 256)
        self.eos_token_id = len(self.tokens) - 1

    def __call__(self, text):
        return list(text.encode())


def main():
    import resource  # which Windows lacks; there the wall time ends it

    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    import llguidance

    compiler, vocabulary = llguidance.LLMatcher, llguidance.TokenizerWrapper(Letters(int(sys.argv[1])))
    lark = sys.stdin.buffer.read().decode("utf-8")
    made = compiler(llguidance.LLTokenizer(vocabulary), compiler.grammar_from_lark(lark), log_level=0)
    fits = not made.is_error() and (any(made.compute_bitmask()) or made.is_accepting())
    sys.stdout.buffer.write((made.get_error() or ("" if fits else "nothing satisfies it")).encode("utf-8"))


if __name__ == "__main__":
    main()
