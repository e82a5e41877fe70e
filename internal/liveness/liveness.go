// Package liveness is the agreement between the gateways, which hold the nodes' sessions, and
// the readers that must know which nodes are alive: two kinds of Lease and how to read them.
//
//	kube-node-lease/NODE                    spec.holderIdentity = NAME of the gateway that holds the session;
//	                                        annotation coracle.dev/session-ended (RFC 3339) once it has ended.
//	                                        Written when a session begins or ends, never in between.
//	kube-system/coracle-gateway-NAME        renewed by the gateway every 10 s for all its sessions.
//
// So heartbeats cost writes by the number of gateways, not of nodes. A node is alive while its
// lease names a gateway, carries no session-ended annotation, and that gateway's lease is fresh.
//
// The package is pure. It owns names and readings, no clock and no client.
package liveness

import (
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
)

const (
	// NodeLeaseNamespace holds one Lease for each node, named as the node.
	NodeLeaseNamespace = "kube-node-lease"
	// GatewayLeaseNamespace holds one Lease for each gateway.
	GatewayLeaseNamespace = "kube-system"
	// GatewayLeasePrefix precedes a gateway's name in the name of its Lease.
	GatewayLeasePrefix = "coracle-gateway-"
	// SessionEndedAnnotation, on a node's Lease, is when its session ended (RFC 3339, the
	// gateway's clock). It is taken away when a session begins.
	SessionEndedAnnotation = "coracle.dev/session-ended"
	// GatewayRenewInterval is how often a gateway renews its Lease.
	GatewayRenewInterval = 10 * time.Second
	// GatewayLeaseDuration is how long a gateway is believed without a renewal: four intervals,
	// so that a slow etcd is not taken for a dead gateway.
	GatewayLeaseDuration = 40 * time.Second
	// GatewayLeaseDurationSeconds is GatewayLeaseDuration as spec.leaseDurationSeconds.
	GatewayLeaseDurationSeconds = int32(GatewayLeaseDuration / time.Second)
)

// GatewayLeaseName is the name of the Lease of the gateway called name.
func GatewayLeaseName(name string) string { return GatewayLeasePrefix + name }

// GatewayName is the gateway that a Lease in GatewayLeaseNamespace belongs to; ok is false for
// a Lease that is no gateway's.
func GatewayName(leaseName string) (name string, ok bool) {
	name, ok = strings.CutPrefix(leaseName, GatewayLeasePrefix)
	return name, ok && name != ""
}

// Session is what a node's Lease says of the node's session.
type Session struct {
	// Gateway holds the session, or held it last. Empty: no session was ever held.
	Gateway string
	// Ended is when the session ended by the gateway's clock; zero while it lives. An annotation
	// that is no time counts as ended at an unknown time: the Unix epoch.
	Ended time.Time
}

// Live is true while the gateway says so. Whether the gateway itself is alive is for the reader
// of its own Lease to judge.
func (s Session) Live() bool { return s.Gateway != "" && s.Ended.IsZero() }

// ReadSession reads a node's Lease. A nil Lease is no session.
func ReadSession(lease *coordinationv1.Lease) Session {
	if lease == nil || lease.Spec.HolderIdentity == nil {
		return Session{}
	}
	s := Session{Gateway: *lease.Spec.HolderIdentity}
	if text, ok := lease.Annotations[SessionEndedAnnotation]; ok {
		ended, err := time.Parse(time.RFC3339, text)
		if err != nil || ended.IsZero() {
			ended = time.Unix(0, 0)
		}
		s.Ended = ended
	}
	return s
}
