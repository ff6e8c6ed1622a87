"""Architectures as coefficient dynamics: plain tensors in, a CoefficientDynamics out.

A new architecture is one file here, with its function and its `Family` row, and one line below.
"""

from mixerlens.families.attention import *
from mixerlens.families.based import *
from mixerlens.families.check import Row, measure
from mixerlens.families.convolution import *
from mixerlens.families.delta import *
from mixerlens.families.designed import *
from mixerlens.families.differential import *
from mixerlens.families.draw import Draw
from mixerlens.families.family import FAMILIES, Family, register
from mixerlens.families.gated_scalar import *
from mixerlens.families.hgrn import *
from mixerlens.families.hippo import *
from mixerlens.families.linear import *
from mixerlens.families.log_linear import *
from mixerlens.families.longhorn import *
from mixerlens.families.mamba3 import *
from mixerlens.families.mesa import *
from mixerlens.families.mlstm import *
from mixerlens.families.modes import *
from mixerlens.families.momentum import *
from mixerlens.families.norm import *
from mixerlens.families.outsiders import *
from mixerlens.families.positions import *
from mixerlens.families.product import *
from mixerlens.families.rank_one import *
from mixerlens.families.rwkv import *
from mixerlens.families.s4 import *
from mixerlens.families.sigmoid import *
from mixerlens.families.slot import *
from mixerlens.families.ssm import *
