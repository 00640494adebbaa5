/**
 * @file Networks on pictures, with the layers that torchvision's have. `size` is the side of the picture; `width` scales the channels
 * (64 is the published network), `layers` is at most so many blocks a stage.
 */
import type { GraphSpec } from '../compiler/onnx/writer.ts';
import { Network, type Value } from './network.ts';

export interface VisionSizes {
  readonly size: number;
  readonly width: number;
  readonly layers: number;
  readonly classes: number;
}

/** The published networks; 64 blocks is more than any stage has. */
export const visionSizes: VisionSizes = { size: 224, width: 64, layers: 64, classes: 1000 };

/** A branch beside a residual adds a quarter to the variance, so that depth does not make activations grow out of half floats. */
const branchGain = 0.5;

/** Channels of the published network, scaled; at least 1. */
const scaled = (channels: number, { width }: VisionSizes): number =>
  Math.max(1, Math.round((channels * width) / visionSizes.width));

const picture = (net: Network, { size }: VisionSizes): Value => net.input('x', [1, 3, size, size]);

/** ResNet-18, -34 (basic blocks) and -50 (bottlenecks), by the blocks of their four stages. */
export function resnet(
  blocks: readonly number[],
  bottleneck: boolean,
  seed: number,
  s: VisionSizes,
): GraphSpec {
  const net = new Network(seed);
  const stem = net.relu(net.conv(picture(net, s), scaled(64, s), { side: 7, stride: 2, pad: 3 }));
  let x = net.maxPool(stem, { side: 3, stride: 2, pad: 1 });
  blocks.forEach((count, stage) => {
    const inner = scaled(64 * 2 ** stage, s);
    for (let block = 0; block < Math.min(count, s.layers); block++) {
      const stride = stage > 0 && block === 0 ? 2 : 1;
      x = bottleneck ? bottleneckBlock(net, x, inner, stride) : basicBlock(net, x, inner, stride);
    }
  });
  return net.finish([net.dense(net.globalPool(x), s.classes, 1)]);
}

function basicBlock(net: Network, x: Value, channels: number, stride: number): Value {
  const first = net.relu(net.conv(x, channels, { side: 3, stride, pad: 1 }));
  const branch = net.conv(first, channels, { side: 3, pad: 1, gain: branchGain });
  return net.relu(net.add(branch, shortcut(net, x, channels, stride)));
}

function bottleneckBlock(net: Network, x: Value, inner: number, stride: number): Value {
  const first = net.relu(net.conv(x, inner, { side: 1 }));
  const second = net.relu(net.conv(first, inner, { side: 3, stride, pad: 1 }));
  const branch = net.conv(second, 4 * inner, { side: 1, gain: branchGain });
  return net.relu(net.add(branch, shortcut(net, x, 4 * inner, stride)));
}

const shortcut = (net: Network, x: Value, channels: number, stride: number): Value =>
  stride === 1 && x.shape[1] === channels ? x : net.conv(x, channels, { side: 1, stride, gain: 1 });

/** MobileNetV2: expansion, channels, blocks and stride of each stage. */
export function mobilenetV2(seed: number, s: VisionSizes): GraphSpec {
  const net = new Network(seed);
  const [zero, six] = [net.scalar(0), net.scalar(6)];
  const relu6 = (x: Value): Value => net.node('Clip', [x, zero, six], x.shape);
  let x = relu6(net.conv(picture(net, s), scaled(32, s), { side: 3, stride: 2, pad: 1 }));
  const stages = [
    [1, 16, 1, 1],
    [6, 24, 2, 2],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
  ] as const;
  for (const [expansion, channels, count, firstStride] of stages) {
    const out = scaled(channels, s);
    for (let block = 0; block < Math.min(count, s.layers); block++) {
      const stride = block === 0 ? firstStride : 1;
      const hidden = x.shape[1]! * expansion;
      const wide = expansion === 1 ? x : relu6(net.conv(x, hidden, { side: 1 }));
      const filtered = relu6(net.conv(wide, hidden, { side: 3, stride, pad: 1, groups: hidden }));
      const isResidual = stride === 1 && x.shape[1] === out;
      const narrow = net.conv(filtered, out, { side: 1, gain: isResidual ? branchGain : 1 });
      x = isResidual ? net.add(narrow, x) : narrow;
    }
  }
  const head = relu6(net.conv(x, scaled(1280, s), { side: 1 }));
  return net.finish([net.dense(net.globalPool(head), s.classes, 1)]);
}

/** SqueezeNet 1.1: fire modules (a 1x1 squeeze, then 1x1 and 3x3 side by side) between poolings. */
export function squeezenet(seed: number, s: VisionSizes): GraphSpec {
  const net = new Network(seed);
  const pool = (x: Value): Value => net.maxPool(x, { side: 3, stride: 2, ceil: true });
  const fire = (x: Value, squeeze: number, expand: number): Value => {
    const narrow = net.relu(net.conv(x, scaled(squeeze, s), { side: 1 }));
    const sides = [
      net.relu(net.conv(narrow, scaled(expand, s), { side: 1 })),
      net.relu(net.conv(narrow, scaled(expand, s), { side: 3, pad: 1 })),
    ];
    const [, channels, ...spatial] = sides[0]!.shape;
    return net.node('Concat', sides, [1, 2 * channels!, ...spatial], { axis: 1 });
  };
  const stages = [
    [
      [16, 64],
      [16, 64],
    ],
    [
      [32, 128],
      [32, 128],
    ],
    [
      [48, 192],
      [48, 192],
      [64, 256],
      [64, 256],
    ],
  ] as const;
  let x = net.relu(net.conv(picture(net, s), scaled(64, s), { side: 3, stride: 2 }));
  for (const stage of stages) {
    x = pool(x);
    for (const [squeeze, expand] of stage.slice(0, s.layers)) x = fire(x, squeeze, expand);
  }
  return net.finish([net.globalPool(net.relu(net.conv(x, s.classes, { side: 1 })))]);
}

/** VGG-11 without batch norm: 3x3 convolutions, each stage halved by a pooling, and three large fully connected layers. */
export function vgg11(seed: number, s: VisionSizes): GraphSpec {
  const net = new Network(seed);
  let x = picture(net, s);
  for (const stage of [[64], [128], [256, 256], [512, 512], [512, 512]]) {
    for (const channels of stage.slice(0, s.layers))
      x = net.relu(net.conv(x, scaled(channels, s), { side: 3, pad: 1 }));
    x = net.maxPool(x, { side: 2, stride: 2 });
  }
  x = net.flatten(x);
  for (const hidden of [4096, 4096]) x = net.relu(net.dense(x, scaled(hidden, s)));
  return net.finish([net.dense(x, s.classes, 1)]);
}
