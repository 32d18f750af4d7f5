-- The spending read model: one row for each day, action, member, project and work of a team, its sums added up by the projection.
-- An empty text stands where a use named no member, project or work. Days are those of the team's zone.
CREATE TABLE spending_day (
    shard           integer          NOT NULL,
    team_id         text COLLATE "C" NOT NULL,
    day             date             NOT NULL,
    action          text COLLATE "C" NOT NULL,
    member          text COLLATE "C" NOT NULL,
    project         text COLLATE "C" NOT NULL,
    work            text COLLATE "C" NOT NULL,
    uses            bigint           NOT NULL,
    waived          bigint           NOT NULL,
    charged_micros  bigint           NOT NULL,
    refunded_micros bigint           NOT NULL,
    PRIMARY KEY (shard, team_id, day, action, member, project, work)
) WITH (fillfactor = 80);
