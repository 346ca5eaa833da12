from trivium.plan.machine import Machine


def test_a_machine_holds_less_than_all_of_its_memory() -> None:
    machine = Machine("a machine", 2, 1000, "float32", 1e9)
    assert machine.holds(900)
    assert not machine.holds(901)
