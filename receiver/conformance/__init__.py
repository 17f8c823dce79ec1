"""The conformance list, C1 to C48, tried on any deployment over HTTP: ours or another's.

items.py says what an item is and runs them. trial.py is the provider that they play, signing.py how it signs, wire.py
what it sends, probes.py how it counts and verdicts.py what it makes of the answers. The items: signatures.py,
answers.py, framing.py, bodies.py, load.py and strain.py, and in unseen.py those that HTTP alone can't show.
"""
