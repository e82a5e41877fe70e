// Package testport finds ports for test servers that another process opens, or that are opened again after a restart. It
// is no part of the shipped programs.
package testport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports of outgoing connections are taken from 32768 upwards (ip_local_port_range). One from there may be the source port
// of anybody's connection by the time the server listens, or of the server's own client while the server is down.
const (
	lowest  = 12000
	highest = 29999 // above are node ports
)

// Free returns different loopback TCP ports on which nobody listens. They are chosen by chance, so that two test binaries
// that look at the same time hardly ever find the same.
func Free(n int) ([]int, error) {
	var ports []int
	for range 1000 {
		if len(ports) == n {
			return ports, nil
		}
		port := lowest + rand.IntN(highest-lowest)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer l.Close() // held until all are found, so that none comes twice
		ports = append(ports, port)
	}
	return nil, errors.New("of a thousand ports on 127.0.0.1 too few are free")
}
