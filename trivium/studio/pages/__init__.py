"""The pages of the studio: one file each, with what it shows and the calls that its script makes."""

from trivium.studio.pages import data, judges, playground, standings, story, team, vote

ROUTERS = (story.routes, playground.routes, data.routes, vote.routes, team.routes, judges.routes, standings.routes)
