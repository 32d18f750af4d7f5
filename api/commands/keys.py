"""The commands about a team's keys, and the approval of what somebody else proposed."""

from __future__ import annotations

from fastapi import APIRouter

from api.answers import CommandAnswer
from api.answers_keys import CreatedKeyAnswer
from api.commands.running import AskedHere, Run
from api.gate import Gate
from api.guard import principal_of
from api.keys import Parts, key_text, new_key
from api.parameters import ActPath, KeyPath, TeamPath
from api.requests.keys import ActApprovalBody, KeyBody, KeyRevocationBody


def key_routes(router: APIRouter, run: Run) -> None:
    """The routes of keys and approvals."""

    @router.post("/{team_id}/keys", status_code=201, name="create_key", operation_id="create_key")
    async def create_key(asked: AskedHere, team_id: TeamPath, body: KeyBody) -> CreatedKeyAnswer:
        """A member has another API key, of at most two live ones. The key is shown this once; nobody keeps its secret."""
        principal = principal_of(asked.request)
        answer = await run(asked, body.command(team_id, principal.member))
        gate: Gate = asked.request.app.state.gate
        assert answer.key_id is not None, "the command made a key"
        secret = new_key().secret
        # Whoever stores the secret shows it: a repeated request, or one after a crash, can tell whether that was done.
        fresh = await gate.ring.add(answer.key_id, secret, team_id)
        text = key_text(Parts(answer.key_id, secret)) if fresh else None
        return CreatedKeyAnswer(**dict(answer), key=text)

    @router.post(
        "/{team_id}/keys/{key_id}/revocation", status_code=201, name="revoke_key", operation_id="revoke_key"
    )
    async def revoke_key(
        asked: AskedHere, team_id: TeamPath, key_id: KeyPath, body: KeyRevocationBody
    ) -> CommandAnswer:
        """The key opens nothing any more: within five seconds, on every server."""
        return await run(asked, body.command(team_id, key_id))

    @router.post(
        "/{team_id}/acts/{act_id}/approval", status_code=201, name="approve_act", operation_id="approve_act"
    )
    async def approve_act(
        asked: AskedHere, team_id: TeamPath, act_id: ActPath, body: ActApprovalBody
    ) -> CommandAnswer:
        """What another person proposed, which your role may do, has happened."""
        return await run(asked, body.command(team_id, act_id))
