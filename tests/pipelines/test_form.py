import inspect

import pytest

from caloforge.errors import InputError
from caloforge.pipelines.form import unused, with_steps_for, without
from caloforge.pipelines.parameters import check_parameters
from caloforge.pipelines.settings import PipelineSettings


def test_what_is_left_out_keeps_its_default() -> None:
    def steps(data: str = "here", deploy: str = "", seed: int = 3) -> tuple[str, str, int]:
        return data, deploy, seed

    fewer = without(steps, ["deploy"])
    assert list(inspect.signature(fewer).parameters) == ["data", "seed"]
    assert fewer("there", 5) == ("there", "", 5)
    assert fewer(seed=7) == ("here", "", 7)
    with pytest.raises(TypeError):
        fewer(deploy="calo")


def test_a_parameter_that_is_given_brings_its_step() -> None:
    settings = PipelineSettings(families=("vae",))
    assert unused(settings) == ["tune_trials", "deploy"]
    more = with_steps_for(settings, {"tune_trials": "20", "deploy": "calo", "seed": "4"})
    assert (more.tuning.trials, more.deploy, more.families) == (20, "calo", ("vae",))
    assert unused(more) == []
    assert with_steps_for(settings, {"tune_trials": "", "deploy": ""}) == settings
    with pytest.raises(InputError, match=r"parameters: deploy: .*'My Calo'"):
        with_steps_for(settings, {"deploy": "My Calo"})


def test_a_compiled_pipeline_says_how_to_get_the_step() -> None:
    pipeline = {"root": {"inputDefinitions": {"parameters": {}}}}
    with pytest.raises(InputError, match=r"'deploy': the pipeline was compiled without its step; .* deploy: NAME"):
        check_parameters(pipeline, {"deploy": "calo"})
