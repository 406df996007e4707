"""The notebook `explore.ipynb` for marimo: `marimo edit explore_marimo.py`."""

import marimo

app = marimo.App(width="medium", app_title="Evaluate, look, harvest")


@app.cell
def _():
    import marimo as mo

    import simkit
    from simkit import BeamSearch, Josh, Rollout, Run

    return BeamSearch, Josh, Rollout, Run, mo, simkit


@app.cell
def _(mo):
    mo.md("""
    # Evaluate, look, harvest

    Ten conversations in the built-in world, their scores as a data frame, and a tree of JOSH. Nothing here needs a key.
    """)


@app.cell
async def _(Rollout, Run, simkit):
    async with Run(name="notebook", seed=7, progress=simkit.show_progress()) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent="scripted,error_rate=0.3")
        await run.play(Rollout(), cast, run.tasks(world, "test", 10))
    run
    return run, world


@app.cell
def _(run):
    scores = run.store.query(
        "select task_id, reward, turns from episode_scores order by reward", runs=[run.id], scoped=True
    )
    scores.pl()


@app.cell
async def _(BeamSearch, Josh, Run, simkit, world):
    async with Run(name="harvest", seed=7, progress=simkit.show_progress()) as harvest:
        players = harvest.cast(world, agent="scripted,error_rate=0.3")
        episodes = await harvest.play(Josh(BeamSearch(beam=4)), players, harvest.tasks(world, "train", 3))
    harvest.store.tree(harvest.id, episodes[0].episode_id)
    return episodes, harvest


@app.cell
def _(harvest):
    harvest.store.query("from harvest_counts", runs=[harvest.id], scoped=True)


if __name__ == "__main__":
    app.run()
