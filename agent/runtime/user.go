package runtime

import (
	"bufio"
	"bytes"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"

	"coracle/agent/pod"
	"coracle/internal/fault"
)

// accounts are the parts of an image's /etc/passwd and /etc/group that matter here.
type accounts struct {
	users  []account
	groups []group
}

type account struct {
	name     string
	uid, gid uint32
}

type group struct {
	name    string
	gid     uint32
	members []string
}

// parseAccounts reads passwd(5) and group(5); lines that are not in their format are left out.
func parseAccounts(passwd, groups []byte) accounts {
	var out accounts
	for fields := range colonLines(passwd, 4) {
		uid, ok1 := parseID(fields[2])
		gid, ok2 := parseID(fields[3])
		if ok1 && ok2 {
			out.users = append(out.users, account{name: fields[0], uid: uid, gid: gid})
		}
	}
	for fields := range colonLines(groups, 3) {
		gid, ok := parseID(fields[2])
		if !ok {
			continue
		}
		g := group{name: fields[0], gid: gid}
		if len(fields) > 3 && fields[3] != "" {
			g.members = strings.Split(fields[3], ",")
		}
		out.groups = append(out.groups, g)
	}
	return out
}

func colonLines(data []byte, least int) func(func([]string) bool) {
	return func(yield func([]string) bool) {
		lines := bufio.NewScanner(bytes.NewReader(data))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			fields := strings.Split(strings.TrimSpace(lines.Text()), ":")
			if len(fields) >= least && fields[0] != "" && !strings.HasPrefix(fields[0], "#") {
				if !yield(fields) {
					return
				}
			}
		}
	}
}

func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n < 1<<31
}

// resolveUser says who the first process is: the security context before the image's USER, names
// and supplementary groups from the image's own files. PURE. Errors are of class Invalid.
func resolveUser(c pod.ContainerSpec, imageUser string, acc accounts) (user, error) {
	var out user
	userPart, groupPart, hasGroup := strings.Cut(imageUser, ":")
	if c.Security.RunAsUser != nil {
		userPart, hasGroup = strconv.FormatInt(*c.Security.RunAsUser, 10), false
	}
	if userPart == "" {
		userPart = "0"
	}
	name := ""
	if uid, ok := parseID(userPart); ok {
		out.UID = uid
		for _, a := range acc.users {
			if a.uid == uid {
				name, out.GID = a.name, a.gid
				break
			}
		}
	} else {
		i := slices.IndexFunc(acc.users, func(a account) bool { return a.name == userPart })
		if i < 0 {
			return user{}, fault.Invalid("user " + strconv.Quote(userPart) + " is not in the image's /etc/passwd")
		}
		name, out.UID, out.GID = userPart, acc.users[i].uid, acc.users[i].gid
	}
	switch {
	case c.Security.RunAsGroup != nil:
		out.GID = uint32(*c.Security.RunAsGroup)
	case hasGroup && groupPart != "":
		gid, err := resolveGroup(groupPart, acc)
		if err != nil {
			return user{}, err
		}
		out.GID = gid
	}
	out.Groups = supplementary(c.PodSecurity, name, out.GID, acc)
	return out, nil
}

func resolveGroup(part string, acc accounts) (uint32, error) {
	if gid, ok := parseID(part); ok {
		return gid, nil
	}
	for _, g := range acc.groups {
		if g.name == part {
			return g.gid, nil
		}
	}
	return 0, fault.Invalid("group " + strconv.Quote(part) + " is not in the image's /etc/group")
}

// supplementary are the primary group, the image's groups of the user unless the pod's policy is
// Strict, and the pod's own, each once.
func supplementary(ps *v1.PodSecurityContext, name string, gid uint32, acc accounts) []uint32 {
	list := []uint32{gid}
	add := func(g uint32) {
		if !slices.Contains(list, g) {
			list = append(list, g)
		}
	}
	strict := ps != nil && ps.SupplementalGroupsPolicy != nil && *ps.SupplementalGroupsPolicy == v1.SupplementalGroupsPolicyStrict
	if name != "" && !strict {
		for _, g := range acc.groups {
			if slices.Contains(g.members, name) {
				add(g.gid)
			}
		}
	}
	if ps != nil {
		for _, g := range ps.SupplementalGroups {
			add(uint32(g))
		}
		if ps.FSGroup != nil {
			add(uint32(*ps.FSGroup))
		}
	}
	return list
}
