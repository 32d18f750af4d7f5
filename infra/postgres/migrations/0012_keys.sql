-- What a key is bound to: a service's key may list the teams and actions that it is for, a team's key names its team, whose own
-- stream says whose it is and whether it is still good. When it was used last is noted once a minute at most.
ALTER TABLE api_key
    ADD COLUMN team_id      text COLLATE "C",
    ADD COLUMN teams        text[],
    ADD COLUMN actions      text[],
    ADD COLUMN scopes       text[],
    ADD COLUMN last_used_at timestamptz;
CREATE INDEX api_key_team ON api_key (team_id) WHERE team_id IS NOT NULL;
CREATE INDEX api_key_name ON api_key (name);
