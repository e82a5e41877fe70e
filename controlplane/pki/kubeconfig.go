package pki

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

// kubeconfig is the part of the client configuration format (client.config.k8s.io, v1 "Config") that is written here.
type kubeconfig struct {
	APIVersion     string         `json:"apiVersion"`
	Kind           string         `json:"kind"`
	CurrentContext string         `json:"current-context"`
	Clusters       []namedCluster `json:"clusters"`
	Contexts       []namedContext `json:"contexts"`
	Users          []namedUser    `json:"users"`
}

type namedCluster struct {
	Name    string  `json:"name"`
	Cluster cluster `json:"cluster"`
}

type cluster struct {
	Server string `json:"server"`
	CAData []byte `json:"certificate-authority-data"`
}

type namedContext struct {
	Name    string      `json:"name"`
	Context userContext `json:"context"`
}

type userContext struct {
	Cluster string `json:"cluster"`
	User    string `json:"user"`
}

type namedUser struct {
	Name string `json:"name"`
	User user   `json:"user"`
}

type user struct {
	CertData []byte `json:"client-certificate-data"`
	KeyData  []byte `json:"client-key-data"`
}

// Kubeconfig renders a client configuration with everything embedded.
func Kubeconfig(server, userName string, caPEM, certPEM, keyPEM []byte) ([]byte, error) {
	return yaml.Marshal(kubeconfig{
		APIVersion: "v1", Kind: "Config", CurrentContext: "coracle",
		Clusters: []namedCluster{{Name: "coracle", Cluster: cluster{Server: server, CAData: caPEM}}},
		Contexts: []namedContext{{Name: "coracle", Context: userContext{Cluster: "coracle", User: userName}}},
		Users:    []namedUser{{Name: userName, User: user{CertData: certPEM, KeyData: keyPEM}}},
	})
}

// ensureKubeconfig writes the admin kubeconfig when it is missing or says something else than it should.
func (m *Material) ensureKubeconfig() error {
	text, err := readFile(m.Admin.File)
	if err != nil {
		return err
	}
	certPEM, keyPEM := splitPair(text)
	want, err := Kubeconfig(m.options.ServerURL, AdminUser, m.CAPEM, certPEM, keyPEM)
	if err != nil {
		return fmt.Errorf("render %s: %w", m.KubeconfigFile, err)
	}
	have, err := readFile(m.KubeconfigFile)
	if err != nil {
		return err
	}
	if bytes.Equal(have, want) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(m.KubeconfigFile), dirMode); err != nil {
		return fmt.Errorf("make directory of %s: %w", m.KubeconfigFile, err)
	}
	if err := writeFile(m.KubeconfigFile, want); err != nil {
		return err
	}
	m.options.Log.Info("wrote admin kubeconfig", "file", m.KubeconfigFile, "server", m.options.ServerURL)
	return nil
}

// splitPair parts the PEM text of a Pair's file into certificates and keys.
func splitPair(text []byte) (certs, keys []byte) {
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return certs, keys
		}
		if block.Type == "CERTIFICATE" {
			certs = append(certs, pem.EncodeToMemory(block)...)
		} else {
			keys = append(keys, pem.EncodeToMemory(block)...)
		}
	}
}
