"""The explicit operator of a whole forward pass, decoder included (arXiv 2604.20595).

`explain` gives the accounts of one pass of an S4D classifier, certified against the model or refused; `record` and the
accounts one by one (`gate_form`, `pair_form`, `frozen_account`, `removal`) are for those who want a part of it.
"""

from mixerlens.explicit.activations import ACTIVATIONS, Activation, activation
from mixerlens.explicit.explain import Explanation, explain
from mixerlens.explicit.frozen import FrozenAccount, frozen_account
from mixerlens.explicit.gate import GateForm, gate_form
from mixerlens.explicit.layer import Forward, record
from mixerlens.explicit.pairs import PairForm, pair_form
from mixerlens.explicit.removal import Removal, removal

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Explanation",
    "Forward",
    "FrozenAccount",
    "GateForm",
    "PairForm",
    "Removal",
    "activation",
    "explain",
    "frozen_account",
    "gate_form",
    "pair_form",
    "record",
    "removal",
]
