// Package pki owns the secret files of a control plane: the cluster CA, the serving certificates of the REST API and
// of the gateway, the admin client certificate and its kubeconfig, the service-account signing keys and the key that
// encrypts Secrets in etcd. It does not own trust decisions (controlplane/auth) nor the wire of enrolment (gateway).
//
// Layout of the directory (mode 0700, every file 0600):
//
//	ca.key, ca.crt        cluster CA; 10 years
//	service-account.key   one or more EC or RSA private keys in PEM; the first signs, all verify
//	encryption.key        one or more lines NAME:BASE64(32 bytes); the first encrypts, all decrypt
//	apiserver.pem         certificate and key of :6443 in ONE file, so that they cannot fall apart
//	gateway.pem           the same for :6444
//	admin.pem             client certificate system:masters
//	complete              written last by the first start
//
// Invariants:
//   - Every file appears by rename after fsync: a reader sees the old text or the new one, never a half.
//   - ca.key is on disk before ca.crt is, so a kill between the two leaves a key from which the certificate is made again
//     (same key, same subject: whatever was signed before stays valid).
//   - What cannot be made again (CA, service-account keys, encryption keys) is made only while "complete" is missing.
//     Afterwards a missing file is an error, because a new one would lock out nodes, pods or stored Secrets.
//   - Leaves are cut from the CA whenever they are missing, used to two thirds, or lack a name; a leaf by a foreign CA
//     is never overwritten but reported.
//   - A clock behind the CA's first day is reported, not fatal: it mends itself once the clock is set.
package pki
