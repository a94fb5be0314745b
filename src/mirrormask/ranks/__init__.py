"""What many processes decide together: exact order over shards, one mind, one checksum."""

from mirrormask.ranks.agreement import Ranks as Ranks
from mirrormask.ranks.box import Box as Box
from mirrormask.ranks.box import is_sharded as is_sharded
from mirrormask.ranks.box import local_part as local_part
from mirrormask.ranks.checksum import SAME_SIZE as SAME_SIZE
from mirrormask.ranks.checksum import bits_sum as bits_sum
from mirrormask.ranks.checksum import checksum as checksum
from mirrormask.ranks.draw import draw as draw
from mirrormask.ranks.shards import count_true as count_true
from mirrormask.ranks.shards import keep_largest_in_shards as keep_largest_in_shards
from mirrormask.ranks.shards import kth_smallest_in_shards as kth_smallest_in_shards
from mirrormask.ranks.shards import sum_in_shards as sum_in_shards
