"""Which secret of a source proves a delivery."""

from receiver.delivery import BadSignature, Delivery
from receiver.settings import Source


def proven_by(source: Source, delivery: Delivery, now: float) -> str:
    """Return the name of the secret that proves *delivery*, of those that count at *now*; else raise BadSignature."""
    failure = BadSignature(f"{source.provider}: no secret of the source counts now, by its dates")
    for secret in source.secrets:
        if not secret.counts(now):
            continue
        try:
            source.adapter.verify(delivery, secret.value, source.options, now)
        except BadSignature as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - a stranger's bytes must never make a 500
            failure = BadSignature(f"{source.provider}: verifying raised {type(error).__name__}")
        else:
            return secret.name
    raise failure
