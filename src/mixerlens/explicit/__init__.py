"""The explicit operator of a whole forward pass, decoder included (arXiv 2604.20595).

`explain` gives the accounts of one pass of an S4D classifier, certified against the model or refused; `record` and the
accounts one by one (`gate_form`, `pair_form`, `frozen_account`, `removal`) are for those who want a part of it.

By degree in the input: `orders` of one block, `stack_orders` of a whole stack, `order_two_pairs` and `pair_generators`
for the pairs of single inputs, `CarlemanLift` for the same as explicit matrices; the polynomials are in `series`.
"""

from mixerlens.explicit import series
from mixerlens.explicit.activations import ACTIVATIONS, Activation, activation
from mixerlens.explicit.carleman import CarlemanLift, lift_of_modes
from mixerlens.explicit.displacement import order_two_pairs, toeplitz_gram
from mixerlens.explicit.explain import Explanation, explain
from mixerlens.explicit.frozen import FrozenAccount, frozen_account
from mixerlens.explicit.gate import GateForm, gate_form
from mixerlens.explicit.jets import StackOrders, stack_orders
from mixerlens.explicit.layer import Forward, record
from mixerlens.explicit.orders import Orders, orders
from mixerlens.explicit.pairs import PairForm, pair_form
from mixerlens.explicit.removal import Removal, removal
from mixerlens.explicit.semiseparable import PairGenerators, pair_generators

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "CarlemanLift",
    "Explanation",
    "Forward",
    "FrozenAccount",
    "GateForm",
    "Orders",
    "PairForm",
    "PairGenerators",
    "Removal",
    "StackOrders",
    "activation",
    "explain",
    "frozen_account",
    "gate_form",
    "lift_of_modes",
    "order_two_pairs",
    "orders",
    "pair_form",
    "pair_generators",
    "record",
    "removal",
    "series",
    "stack_orders",
    "toeplitz_gram",
]
