"""The pages of the studio: one file each, with what it shows and the calls that its script makes."""

from trivium.studio.pages import playground, story

ROUTERS = (story.routes, playground.routes)
