// Package podinit holds the first process of pods that share their process namespace: a static
// program of some hundred bytes for each architecture, without libraries, image or build step.
//
// It ignores SIGCHLD, upon which the kernel reaps its children and the orphans of the pod by
// itself, and sleeps for ever; a first process is deaf to every signal it has no handler for,
// but for SIGKILL from outside. It is written out here as machine code, because the smallest
// program that a compiler of this repository's toolchain makes takes a megabyte of memory for each pod.
package podinit

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

const (
	base      = 0x400000
	pageSize  = 0x10000 // the largest page of the architectures, so that the segment's alignment fits all
	sigchld   = 17
	sigIgnore = 1
)

// code is one architecture's program.
type code struct {
	machine uint16 // ELF e_machine
	flags   uint32 // ELF e_flags
	wide    bool   // 64 bit
	text    []byte // position-independent but for the sigaction that follows it
}

// Binary gives the program for an architecture in Go's names, as a complete ELF file.
func Binary(arch string) ([]byte, error) {
	c, ok := programs[arch]
	if !ok {
		return nil, fmt.Errorf("first process for shared process namespaces: architecture %s is not supported", arch)
	}
	return c.file(), nil
}

// The programs. Each does rt_sigaction(SIGCHLD, &ignore, NULL, 8) and then sleeps in a loop; the
// sigaction structure lies right behind the text.
var programs = map[string]code{
	"amd64": {machine: 62, wide: true, text: []byte{
		0xb8, 13, 0, 0, 0, // mov eax, 13            rt_sigaction
		0xbf, sigchld, 0, 0, 0, // mov edi, SIGCHLD
		0x48, 0x8d, 0x35, 19, 0, 0, 0, // lea rsi, [rip+19]    behind the text
		0x31, 0xd2, // xor edx, edx
		0x41, 0xba, 8, 0, 0, 0, // mov r10d, 8
		0x0f, 0x05, // syscall
		0xb8, 34, 0, 0, 0, // mov eax, 34            pause
		0x0f, 0x05, // syscall
		0xeb, 0xf7, // jmp to the mov above
	}},
	"arm64": {machine: 183, wide: true, text: words(
		0xd28010c8,            // mov x8, #134           rt_sigaction
		0xd2800000|sigchld<<5, // mov x0, #SIGCHLD
		0x10000161,            // adr x1, .+44           behind the text
		0xd2800002,            // mov x2, #0
		0xd2800103,            // mov x3, #8
		0xd4000001,            // svc #0
		0xd2800928,            // mov x8, #73            ppoll
		0xd2800000,            // mov x0, #0
		0xd2800001,            // mov x1, #0
		0xd2800002,            // mov x2, #0
		0xd2800003,            // mov x3, #0
		0xd4000001,            // svc #0
		0x17fffffa,            // b to mov x8, #73
	)},
	"arm": {machine: 40, flags: 0x05000000, text: words(
		0xe3a070ae,         // mov r7, #174           rt_sigaction
		0xe3a00000|sigchld, // mov r0, #SIGCHLD
		0xe28f1014,         // add r1, pc, #20        behind the text
		0xe3a02000,         // mov r2, #0
		0xe3a03008,         // mov r3, #8
		0xef000000,         // svc #0
		0xe3a0701d,         // mov r7, #29            pause
		0xef000000,         // svc #0
		0xeafffffc,         // b to mov r7, #29
	)},
}

func words(list ...uint32) []byte {
	var out []byte
	for _, w := range list {
		out = binary.LittleEndian.AppendUint32(out, w)
	}
	return out
}

// file wraps the program into an ELF file of one loadable segment (elf(5)).
func (c code) file() []byte {
	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) } // writing to a Buffer cannot fail
	class, header, program, word := byte(1), 52, 32, 4
	if c.wide {
		class, header, program, word = 2, 64, 56, 8
	}
	start := header + program
	size := uint64(start + len(c.text) + 3*word + 8)
	number := func(v uint64) {
		if c.wide {
			put(v)
		} else {
			put(uint32(v))
		}
	}
	put([]byte{0x7f, 'E', 'L', 'F', class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	put(uint16(2)) // executable
	put(c.machine)
	put(uint32(1))
	number(uint64(base + start)) // entry
	number(uint64(header))       // program headers
	number(0)                    // no sections
	put(c.flags)
	for _, v := range []int{header, program, 1, 0, 0, 0} {
		put(uint16(v))
	}
	put(uint32(1)) // load
	if c.wide {
		put(uint32(5)) // readable, executable
	}
	number(0)
	number(base)
	number(base)
	number(size)
	number(size)
	if !c.wide {
		put(uint32(5))
	}
	number(pageSize)
	put(c.text)
	number(sigIgnore) // struct sigaction: handler, flags, restorer, mask
	number(0)
	number(0)
	put(uint64(0))
	return b.Bytes()
}
