"""What is in a new database. The gids stand here, so that the demo and the tests can name them."""

from example_app.auth import digest
from example_app.models import Object, Project, Task, User, Workspace

# Of Ada Lovelace and of Grace Hopper, who has a project that Ada may not see.
TOKEN, OTHER_TOKEN = "demo-token", "other-token"
WORKSPACE, OTHER_WORKSPACE, ADA, GRACE = range(1001, 1005)
LAUNCH, GARDEN, PRIVATE = range(1005, 1008)
README, DEMO, TAG, BEANS, FENCE, CAKE = range(1008, 1014)


def demo_data() -> list[Object]:
    """New objects, for one database."""
    shared = Workspace(gid=WORKSPACE, name="Analytical Engines")
    other = Workspace(gid=OTHER_WORKSPACE, name="Compilers")
    ada = User(gid=ADA, name="Ada Lovelace", email="ada@example.com", workspaces=[shared], token_digest=digest(TOKEN))
    grace = User(gid=GRACE, name="Grace Hopper", email="grace@example.com", workspaces=[shared, other])
    grace.token_digest = digest(OTHER_TOKEN)
    launch = Project(gid=LAUNCH, name="Launch", owner=ada, workspace=shared)
    garden = Project(gid=GARDEN, name="Garden", owner=ada, workspace=shared)
    private = Project(gid=PRIVATE, name="Surprise party", owner=grace, workspace=shared, public=False)
    tasks = [
        *((README, "Write the README", launch), (DEMO, "Record a demo", launch), (TAG, "Tag the release", launch)),
        *((BEANS, "Plant beans", garden), (FENCE, "Mend the fence", garden), (CAKE, "Order a cake", private)),
    ]
    return [Task(gid=gid, name=name, workspace=shared, created_by=home.owner, projects=[home]) for gid, name, home in tasks]
