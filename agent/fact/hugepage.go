package fact

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// HugePages maps a page size in bytes to the bytes set aside in pages of that size. Sizes of
// which no page is set aside are present with 0, as the API shows them.
func (h Host) HugePages() map[int64]int64 {
	const dir = "sys/kernel/mm/hugepages"
	entries, err := os.ReadDir(filepath.Join(h.Root, dir))
	if err != nil {
		return nil
	}
	out := map[int64]int64{}
	for _, e := range entries {
		kb, ok := strings.CutPrefix(e.Name(), "hugepages-")
		kb, ok2 := strings.CutSuffix(kb, "kB")
		size, err := strconv.ParseInt(kb, 10, 64)
		if !ok || !ok2 || err != nil || size <= 0 || size > 1<<40 {
			continue
		}
		n, err := strconv.ParseInt(h.read(filepath.Join(dir, e.Name(), "nr_hugepages")), 10, 64)
		if err != nil || n < 0 || n > 1<<30 {
			n = 0
		}
		out[size*1024] = n * size * 1024
	}
	return out
}
