"""What people are refused, each with its own code.

ProblemError
├── TokenMalformedError        401 token_malformed
├── TokenUnknownError          401 token_unknown
├── TokenExpiredError          401 token_expired
├── TokenRevokedError          401 token_revoked
├── AccountInactiveError       403 account_inactive
├── ScopeMissingError          403 scope_missing
├── SessionRequiredError       403 session_required
├── ModeratorRequiredError     403 moderator_required
├── SecondFactorRequiredError  403 second_factor_required
├── TokenExpiryPastError       400 token_expiry_past
├── TokenScopesInvalidError    400 token_scopes_invalid
├── TokensTooManyError         409 tokens_too_many
├── WebhookUrlInvalidError     400 webhook_url_invalid
├── NameInvalidError           400 name_invalid
├── NameTakenError             409 name_taken
├── ResearcherAlreadyError     409 researcher_already
├── ApplicationOpenError       409 application_open
├── ApplicationDecidedError    409 application_decided
├── ReasonMissingError         400 reason_missing
├── ModeratorInterestError     403 moderator_interest
├── ActPointlessError          409 act_pointless
├── GrantTooLargeError         409 grant_too_large
├── EntryIrreversibleError     409 entry_irreversible
├── TeamMemberAlreadyError     409 team_member_already
├── TeamMemberUnknownError     404 team_member_unknown
├── TeamLeadRequiredError      403 team_lead_required
├── InvitationInvalidError     404 invitation_invalid
├── EmailInvalidError          400 email_invalid
├── SignUpClosedError          409 sign_up_closed
├── ErasureRefusedError        409 erasure_refused
├── TransferReceiverUnknownError 404 transfer_receiver_unknown
├── TransferAmountInvalidError 400 transfer_amount_invalid
├── TransferSentBeforeError    409 transfer_sent_before
└── TransfersTooManyError      429 transfers_too_many
"""

from __future__ import annotations

from typing import ClassVar

from workers.protocol.problems import ProblemError


class TokenMalformedError(ProblemError):
    """The Authorization field is not `Bearer nexa_…`."""

    code: ClassVar[str] = "token_malformed"
    status: ClassVar[int] = 401
    title: ClassVar[str] = "The API token can't be read"


class TokenUnknownError(ProblemError):
    """No such token was ever minted."""

    code: ClassVar[str] = "token_unknown"
    status: ClassVar[int] = 401
    title: ClassVar[str] = "The API token is not known"


class TokenExpiredError(ProblemError):
    """The token's time is over."""

    code: ClassVar[str] = "token_expired"
    status: ClassVar[int] = 401
    title: ClassVar[str] = "The API token has expired"


class TokenRevokedError(ProblemError):
    """Its owner revoked the token."""

    code: ClassVar[str] = "token_revoked"
    status: ClassVar[int] = 401
    title: ClassVar[str] = "The API token was revoked"


class AccountInactiveError(ProblemError):
    """The account behind a credential is closed."""

    code: ClassVar[str] = "account_inactive"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "The account is not active"


class ScopeMissingError(ProblemError):
    """The token may not do this; `required_scope` names what it lacks."""

    code: ClassVar[str] = "scope_missing"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "The API token lacks a scope"


class SessionRequiredError(ProblemError):
    """Only somebody signed in to the portal may do this: a leaked token must not breed others."""

    code: ClassVar[str] = "session_required"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "This needs a signed-in session"


class ModeratorRequiredError(ProblemError):
    """Only staff may do this."""

    code: ClassVar[str] = "moderator_required"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "This needs a moderator"


class SecondFactorRequiredError(ProblemError):
    """A moderator acts only with a second factor on their account, where the operator has not turned that off."""

    code: ClassVar[str] = "second_factor_required"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "This needs a second factor"


class TokenExpiryPastError(ProblemError):
    """A token would have expired before it was minted."""

    code: ClassVar[str] = "token_expiry_past"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The expiry lies in the past"


class TokenScopesInvalidError(ProblemError):
    """No scopes, or one that doesn't exist."""

    code: ClassVar[str] = "token_scopes_invalid"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The scopes are not valid"


class TokensTooManyError(ProblemError):
    """The owner has as many live tokens as one may have."""

    code: ClassVar[str] = "tokens_too_many"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "There are too many API tokens"


class WebhookUrlInvalidError(ProblemError):
    """Notifications can't be posted to this address."""

    code: ClassVar[str] = "webhook_url_invalid"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The webhook's address can't be used"


class NameInvalidError(ProblemError):
    """A name that can't be told from others on a page: empty, or with characters that don't show."""

    code: ClassVar[str] = "name_invalid"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The name can't be used"


class NameTakenError(ProblemError):
    """Somebody, or another team, has this name; case makes no difference."""

    code: ClassVar[str] = "name_taken"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The name is taken"


class ResearcherAlreadyError(ProblemError):
    """Who is a researcher need not apply."""

    code: ClassVar[str] = "researcher_already"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The account may submit jobs already"


class ApplicationOpenError(ProblemError):
    """One application at a time."""

    code: ClassVar[str] = "application_open"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "An application is open already"


class ApplicationDecidedError(ProblemError):
    """A decision stays as it was made."""

    code: ClassVar[str] = "application_decided"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The application was decided already"


class ReasonMissingError(ProblemError):
    """No act without one; who is declined is told it."""

    code: ClassVar[str] = "reason_missing"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "A reason is missing"


class ModeratorInterestError(ProblemError):
    """A moderator's act would be for their own benefit."""

    code: ClassVar[str] = "moderator_interest"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "Another moderator has to do this"


class ActPointlessError(ProblemError):
    """It is as the act would make it already, or the act was done before."""

    code: ClassVar[str] = "act_pointless"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "There is nothing to do"


class GrantTooLargeError(ProblemError):
    """More than a moderator may grant in a day, or nothing."""

    code: ClassVar[str] = "grant_too_large"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The grant is out of bounds"


class EntryIrreversibleError(ProblemError):
    """Neither a grant nor a payment to another, or reversed before."""

    code: ClassVar[str] = "entry_irreversible"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The entry can't be reversed"


class TeamMemberAlreadyError(ProblemError):
    """One team at a time."""

    code: ClassVar[str] = "team_member_already"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "You are in a team already"


class TeamMemberUnknownError(ProblemError):
    """No such person in this team."""

    code: ClassVar[str] = "team_member_unknown"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "There is no such member"


class TeamLeadRequiredError(ProblemError):
    """Only the team's lead may do this."""

    code: ClassVar[str] = "team_lead_required"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "This needs the team's lead"


class InvitationInvalidError(ProblemError):
    """The link, to a team or to the portal, was used, revoked or replaced, has expired, or was never made here."""

    code: ClassVar[str] = "invitation_invalid"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "The invitation doesn't work"


class EmailInvalidError(ProblemError):
    """What was given as an address is none."""

    code: ClassVar[str] = "email_invalid"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The e-mail address can't be used"


class SignUpClosedError(ProblemError):
    """The operator lets nobody make an account."""

    code: ClassVar[str] = "sign_up_closed"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "Sign-up is closed"


class ErasureRefusedError(ProblemError):
    """Something of the person is still going on."""

    code: ClassVar[str] = "erasure_refused"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The account can't be deleted yet"


class TransferReceiverUnknownError(ProblemError):
    """No other person has this account, or they are not here any more."""

    code: ClassVar[str] = "transfer_receiver_unknown"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "Nobody to give to has this account"


class TransferAmountInvalidError(ProblemError):
    """Less than a transfer gives."""

    code: ClassVar[str] = "transfer_amount_invalid"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "Such an amount isn't given"


class TransferSentBeforeError(ProblemError):
    """The id of a transfer was used for another."""

    code: ClassVar[str] = "transfer_sent_before"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "This transfer was sent before"


class TransfersTooManyError(ProblemError):
    """As many as a person gives in a day."""

    code: ClassVar[str] = "transfers_too_many"
    status: ClassVar[int] = 429
    title: ClassVar[str] = "Too many transfers today"
