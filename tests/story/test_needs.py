"""What a run will take: rows, memory."""

from trivium.config import resolve
from trivium.plan import Machine
from trivium.story.needs import memory_of, packed, shortage_of_memory


def test_more_rows_at_once_take_more_memory() -> None:
    few, many = ({"rows_per_step": rows, "microbatch_rows": rows} for rows in (128, 512))
    for less, more in zip(*(memory_of(resolve({"align": rows}), dtype_bytes=4) for rows in (few, many)), strict=True):
        assert less < more


def test_answers_that_do_not_end_take_more_memory_than_those_that_do() -> None:
    likely, most = memory_of(resolve({}), dtype_bytes=4)
    assert likely < most
    short = memory_of(resolve({"align": {"max_new_tokens": 20}}), dtype_bytes=4)
    assert short.likely == short.most


def test_answers_share_the_row_of_their_prompt() -> None:
    recipe = resolve({"model": {"context_length": 256}})  # 82 of them for a prompt
    assert packed(recipe, answers=128, group=8, tokens=96) == (128, 178)
    assert packed(recipe, answers=128, group=8, tokens=30) == (26, 232)
    assert packed(recipe, answers=64, group=2, tokens=30) == (32, 142)


def test_a_value_model_that_learns_beside_the_policy_takes_nearly_as_much_again() -> None:
    grpo, ppo = (memory_of(resolve({"align": {"algorithm": name}}), dtype_bytes=4).likely for name in ("grpo", "ppo"))
    assert 1.3 < ppo / grpo < 2


def test_a_model_that_was_asked_for_and_does_not_fit_is_told_with_both_figures() -> None:
    machine = Machine("a test machine", cores=2, memory=16 * 2**30, precision="float32", matmul_flops=1e11)
    large = resolve({"model": {"num_layers": 32, "width": 4096, "num_heads": 32}})
    told = shortage_of_memory(large, machine, through="pretrain")
    assert told.startswith("that takes about ")
    assert told.endswith(
        " GiB of memory, and there are 16.0 GiB; take a smaller model, or fewer rows at once (microbatch_rows)"
    )
    assert shortage_of_memory(resolve({}), machine, through="") == ""


def test_reinforcement_counts_only_where_it_comes() -> None:
    answers = resolve({"align": {"rows_per_step": 4096, "microbatch_rows": 4096}})
    machine = Machine("a test machine", cores=2, memory=4 * 2**30, precision="float32", matmul_flops=1e11)
    assert shortage_of_memory(answers, machine, through="")
    assert not shortage_of_memory(answers, machine, through="instruct")
