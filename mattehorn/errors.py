"""Every error that Mattehorn raises on purpose, with its code and HTTP status (the native contract's table).

MattehornError                     internal               500
├─ InvalidBody                     invalid_body           400  multipart, JSON or base64 cannot be read
├─ EventError                      invalid_event          400  a store's notification: unreadable or not trusted
├─ MissingImage                    missing_image          400
├─ MultipleImages                  multiple_images        400
├─ UrlNotAllowed                   url_not_allowed        400  a URL that this service does not fetch
├─ ModelNotAllowed                 model_not_allowed      403  licence gate
├─ NotFound                        not_found              404
│  └─ ResultNotFound               result_not_found       404
├─ MethodNotAllowed                method_not_allowed     405
├─ NotAcceptable                   not_acceptable         406
├─ IdempotencyInProgress           idempotency_in_progress 409 with retry_after_s
├─ UploadTimeout                   upload_timeout         408
├─ BodyTooLarge                    body_too_large         413
├─ ImageTooLarge                   image_too_large        413
├─ UnsupportedMediaType            unsupported_media_type 415  the request's Content-Type
├─ UnsupportedImage                unsupported_image      415  the picture's own type
├─ OptionError                     invalid_option         422  one bad option; `field` says which
│  ├─ UnknownOption                unknown_option         422
│  ├─ ConflictingOptions           conflicting_options    422
│  ├─ UnknownModel                 unknown_model          422
│  └─ UnknownRecipe                unknown_recipe         422
├─ CorruptImage                    corrupt_image          422
├─ NoForeground                    no_foreground          422
├─ LowQuality                      low_quality            422  below the score that the recipe accepts
├─ FetchFailed                     fetch_failed           422  a URL whose server gave no picture
├─ IdempotencyKeyReused            idempotency_key_reused 422
├─ Overloaded                      overloaded             429  always with retry_after_s
├─ RateLimited                     rate_limited           429  a tenant's minute is spent; with retry_after_s
├─ QuotaExceeded                   quota_exceeded         429  a tenant's month is spent; with retry_after_s
├─ ModelLoading                    model_loading          503  with retry_after_s
├─ Unavailable                     unavailable            503  with retry_after_s
│  ├─ StoreUnavailable             unavailable            503  the results store did not answer
│  └─ QueueUnavailable             unavailable            503  the queue did not answer
├─ DeadlineExceeded                deadline_exceeded      504
└─ ModelError                      internal               500  a model cannot be loaded or run; found at start

An error crosses process borders by pickling, so `__init__` takes a message and plain keyword data, nothing else.
The message is for the caller: what came, what was allowed, what to do next; no paths, addresses or traces.
"""

from __future__ import annotations

from typing import Any, ClassVar


class MattehornError(Exception):
    """Base of the tree. `data` may hold `field`, `details` (one entry per bad field) and `retry_after_s`."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(self, message: str, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.data = data

    @property
    def retry_after_s(self) -> int | None:
        value = self.data.get("retry_after_s")
        return None if value is None else max(1, int(value))


class InvalidBody(MattehornError):
    code, status = "invalid_body", 400


class EventError(MattehornError):
    code, status = "invalid_event", 400


class MissingImage(MattehornError):
    code, status = "missing_image", 400


class MultipleImages(MattehornError):
    code, status = "multiple_images", 400


class UrlNotAllowed(MattehornError):
    code, status = "url_not_allowed", 400


class ModelNotAllowed(MattehornError):
    code, status = "model_not_allowed", 403


class NotFound(MattehornError):
    code, status = "not_found", 404


class ResultNotFound(NotFound):
    code = "result_not_found"


class MethodNotAllowed(MattehornError):
    code, status = "method_not_allowed", 405


class NotAcceptable(MattehornError):
    code, status = "not_acceptable", 406


class IdempotencyInProgress(MattehornError):
    code, status = "idempotency_in_progress", 409


class UploadTimeout(MattehornError):
    code, status = "upload_timeout", 408


class BodyTooLarge(MattehornError):
    code, status = "body_too_large", 413


class ImageTooLarge(MattehornError):
    code, status = "image_too_large", 413


class UnsupportedMediaType(MattehornError):
    code, status = "unsupported_media_type", 415


class UnsupportedImage(MattehornError):
    code, status = "unsupported_image", 415


class OptionError(MattehornError):
    code, status = "invalid_option", 422


class UnknownOption(OptionError):
    code = "unknown_option"


class ConflictingOptions(OptionError):
    code = "conflicting_options"


class UnknownModel(OptionError):
    code = "unknown_model"


class UnknownRecipe(OptionError):
    code = "unknown_recipe"


class IdempotencyKeyReused(MattehornError):
    code, status = "idempotency_key_reused", 422


class CorruptImage(MattehornError):
    code, status = "corrupt_image", 422


class NoForeground(MattehornError):
    code, status = "no_foreground", 422


class LowQuality(MattehornError):
    code, status = "low_quality", 422


class FetchFailed(MattehornError):
    code, status = "fetch_failed", 422


class Overloaded(MattehornError):
    code, status = "overloaded", 429


class RateLimited(MattehornError):
    code, status = "rate_limited", 429


class QuotaExceeded(MattehornError):
    code, status = "quota_exceeded", 429


class ModelLoading(MattehornError):
    code, status = "model_loading", 503


class Unavailable(MattehornError):
    code, status = "unavailable", 503


class StoreUnavailable(Unavailable):
    pass


class QueueUnavailable(Unavailable):
    pass


class DeadlineExceeded(MattehornError):
    code, status = "deadline_exceeded", 504


class ModelError(MattehornError):
    pass
