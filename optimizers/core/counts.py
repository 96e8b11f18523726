"""Which of two ways takes fewer operations. The code and the formulas of its cost share these rules.

symbol    meaning
B         batch
n         width: I = n_{t-1} or O = n_t
"""


def batch_is_smaller(batch: int, width: int) -> bool:
    """Whether a damped Gram matrix x^T x / B of rows x [B, n] is solved in the space of the batch.

    Each part takes less there if B < n: B^2 n operations to form x x^T and B n^2 to form x^T x, B^3/3 and n^3/3 to
    factorize them, 2 B^2 m and 2 n^2 m to solve for m right sides.
    """
    return batch < width


def factors_are_cheaper(batch: int, inputs: int, outputs: int) -> bool:
    """Whether ``left @ input`` is a cheaper way to carry a direction than a dense [O, I] matrix.

    A dense gradient costs about three passes over O x I numbers; the Gram matrices of the factors cost 2 B^2 (I + O)
    operations. A processor does some 50 operations in the time that a pass takes for one number.
    """
    return batch**2 * (inputs + outputs) < 75 * inputs * outputs


def dense_is_cheaper(batch: int, width: int, products: int) -> bool:
    """Whether to form the Gram matrix of rows [B, n] for a number of products with vectors.

    Forming takes B n^2 operations and then 2 n^2 a product; without it a product takes 4 B n. Below a width of 128
    starting the work takes longer than the work, and formed matrices of several layers share their products.
    """
    return width <= 128 or width * (batch + 2 * products) < 4 * batch * products
