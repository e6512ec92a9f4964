"""Global context for convolutional networks, as Table 4 compares with: the Non-local block and the GC block."""

from torch import Tensor, nn


class NonLocal(nn.Module):
    """Embedded-Gaussian Non-local block (arXiv 1711.07971), C -> C on maps of any size, with its skip connection.

    Table 4's NL-Res50 has one, in c4, with an embedding of C/2 = 512. The two matrix products of the attention are not
    among the paper's FLOPs.
    """

    def __init__(self, channels: int, deploy: bool = False) -> None:
        super().__init__()
        self.theta, self.phi, self.g = (nn.Conv2d(channels, channels // 2, 1) for _ in range(3))
        self.out = nn.Conv2d(channels // 2, channels, 1)
        self.bn = nn.Identity() if deploy else nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        theta, phi, g = (f(x).flatten(2) for f in (self.theta, self.phi, self.g))
        attention = theta.transpose(1, 2).matmul(phi).softmax(-1)
        y = g.matmul(attention.transpose(1, 2)).view(-1, g.shape[1], x.shape[2], x.shape[3])
        return x + self.bn(self.out(y))


class GlobalContext(nn.Module):
    """GC block (arXiv 1904.11492), C -> C, that adds one attention-pooled vector to every position.

    Table 4's GC-Res50 has one in every block of c3, c4 and c5, with ratio 16.
    """

    def __init__(self, channels: int, ratio: int = 16) -> None:
        super().__init__()
        hidden = channels // ratio
        self.mask = nn.Conv2d(channels, 1, 1)
        self.transform = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.GroupNorm(1, hidden), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        weights = self.mask(x).flatten(2).softmax(-1)
        context = x.flatten(2).matmul(weights.transpose(1, 2)).unsqueeze(-1)
        return x + self.transform(context)
