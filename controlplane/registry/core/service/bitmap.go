package service

import (
	"errors"
	"fmt"
)

// errFull says that nothing is left to give.
var errFull = errors.New("range is full")

// PortRange is the range of node ports, both ends included.
type PortRange struct{ First, Last int }

func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

func (r PortRange) size() int { return r.Last - r.First + 1 }

// static is how many ports at the beginning are given last, so that people who choose ports themselves find them free
// (KEP-3668).
func (r PortRange) static() int {
	return min(max(min(16, r.size()/2), r.size()/32), 128, r.size())
}

// bitmap has one bit for each port of a range, least significant bit first.
type bitmap []byte

// sized returns a copy that has room for n bits.
func (b bitmap) sized(n int) bitmap {
	out := make(bitmap, (n+7)/8)
	copy(out, b)
	return out
}

func (b bitmap) has(i int) bool { return i/8 < len(b) && b[i/8]&(1<<(i%8)) != 0 }
func (b bitmap) set(i int)      { b[i/8] |= 1 << (i % 8) }
func (b bitmap) clear(i int)    { b[i/8] &^= 1 << (i % 8) }

// next finds a free bit among n, beginning at a random one past the first static bits and going round; the static ones
// come last. random returns a number in [0, n).
func (b bitmap) next(n, static int, random func(n int) int) (int, error) {
	for _, part := range [][2]int{{static, n}, {0, static}} {
		size := part[1] - part[0]
		if size <= 0 {
			continue
		}
		start := random(size)
		for i := range size {
			if bit := part[0] + (start+i)%size; !b.has(bit) {
				return bit, nil
			}
		}
	}
	return 0, errFull
}
