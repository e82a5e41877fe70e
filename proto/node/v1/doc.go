// Package nodev1 is the wire contract between an agent and the gateway: node.proto and the code generated from it.
// What each message means is said in node.proto.
package nodev1
