package testport

import (
	"fmt"
	"net"
	"testing"
)

func TestFree(t *testing.T) {
	ports, err := Free(5)
	if err != nil || len(ports) != 5 {
		t.Fatal(ports, err)
	}
	seen := map[int]bool{}
	for _, p := range ports {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil || seen[p] || p < lowest || p >= highest {
			t.Errorf("port %d: %v", p, err)
			continue
		}
		defer l.Close()
		seen[p] = true
	}
}
