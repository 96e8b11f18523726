"""Which of two ways takes fewer operations. Each rule stands here once, for the code and for formulas about it.

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

    A dense gradient costs about three passes over O x I numbers, the Gram matrices of the factors 2 B^2 (I + O)
    operations; processors do some 50 operations in the time that one number of a pass takes.
    """
    return batch**2 * (inputs + outputs) < 75 * inputs * outputs


def dense_is_cheaper(batch: int, width: int, products: int) -> bool:
    """Whether a Gram matrix of rows [B, n] is formed for some products with a vector.

    B n^2 to form it and 2 n^2 a product, against 4 B n a product. Below a width of 128 the operations take less time
    than their start, and a matrix is one product with those of other layers.
    """
    return width <= 128 or width * (batch + 2 * products) < 4 * batch * products
