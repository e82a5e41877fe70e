package config

import (
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func load(t *testing.T, file string, args ...string) (*Config, error) {
	t.Helper()
	c := Default()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	Bind(fs, c)
	if file != "" {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return c, Load(fs, c)
}

func TestFlagBeatsFileBeatsDefault(t *testing.T) {
	c, err := load(t, "securePort: 7000\ngatewayPort: 7001\nserverNames: [a.example.com]\netcd: {endpoints: [\"http://e:1\"]}\n",
		"--secure-port=8000", "--etcd-endpoints=http://x:1,http://y:2", "--name=n")
	if err != nil {
		t.Fatal(err)
	}
	if c.SecurePort != 8000 || c.GatewayPort != 7001 || c.ServiceCIDR != "10.96.0.0/16" {
		t.Errorf("ports %d %d, services %s", c.SecurePort, c.GatewayPort, c.ServiceCIDR)
	}
	if !reflect.DeepEqual(c.Etcd.Endpoints, []string{"http://x:1", "http://y:2"}) || !reflect.DeepEqual(c.ServerNames, []string{"a.example.com"}) {
		t.Errorf("endpoints %q, names %q", c.Etcd.Endpoints, c.ServerNames)
	}
}

func TestInferred(t *testing.T) {
	c, err := load(t, "", "--data-dir=/x", "--service-cidr=10.50.0.0/16", "--name=n")
	if err != nil {
		t.Fatal(err)
	}
	if c.ClusterDNS != "10.50.0.10" || c.ServiceIP().String() != "10.50.0.1" || c.Kubeconfig != "/x/admin.kubeconfig" || c.AdvertiseAddress == "" {
		t.Errorf("%+v", c)
	}
	if c.LocalURL() != "https://127.0.0.1:6443" || c.PKIDir() != "/x/pki" || c.EtcdDir() != "/x/etcd" {
		t.Errorf("%s %s %s", c.LocalURL(), c.PKIDir(), c.EtcdDir())
	}
}

func TestRefusals(t *testing.T) {
	for want, file := range map[string]string{
		`unknown field "secureport2"`:    "secureport2: 1",
		`unknown field "endpoint"`:       "etcd: {endpoint: x}",
		`already set`:                    "securePort: 1\nsecurePort: 2",
		"securePort: 0 is not between":   "securePort: 0",
		"6443 is the securePort already": "gatewayPort: 6443",
		"podCIDR: 10.96.4.0/24 overlaps": "podCIDR: 10.96.4.0/24",
		"did you mean 10.96.0.0/16":      "serviceCIDR: 10.96.0.1/16",
		"is too small":                   "serviceCIDR: 10.96.0.0/30",
		"is too large":                   "serviceCIDR: 10.0.0.0/8",
		"not an address in serviceCIDR":  "clusterDNS: 10.1.1.1",
		"the API's own service":          "clusterDNS: 10.96.0.1",
		"nodeMaskSize: 8 must lie":       "nodeMaskSize: 8",
		"nodePortRange":                  "nodePortRange: a-b",
		"holds securePort":               "nodePortRange: 6000-7000",
		"as OpenID Connect demands":      "serviceAccountIssuer: http://x",
		"certFile and keyFile":           "etcd: {endpoints: [\"https://x:1\"], certFile: a}",
		"no endpoints":                   "etcd: {caFile: a}",
		"the scheme must be":             "etcd: {endpoints: [\"ftp://x\"]}",
		"logLevel":                       "logLevel: loud",
		"logFormat":                      "logFormat: xml",
		"memoryLimit":                    "memoryLimit: lots",
		"bindAddress":                    "bindAddress: localhost",
		"that others could dial":         "advertiseAddress: 0.0.0.0",
		"serverNames":                    "serverNames: [\"a b\"]",
		"clusterDomain":                  "clusterDomain: \"x_y\"",
		"dataDir: must be set":           "dataDir: \"\"",
	} {
		if _, err := load(t, file, "--name=n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want it to say %q", file, err, want)
		}
	}
	if _, err := load(t, "", "--config=/does/not/exist"); err == nil || !strings.Contains(err.Error(), "/does/not/exist") {
		t.Errorf("missing file: %v", err)
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, err := load(t, "logLevel: loud\nlogFormat: xml\n", "--name=n")
	if err == nil || !strings.Contains(err.Error(), "loud") || !strings.Contains(err.Error(), "xml") {
		t.Fatalf("got %v, want both problems", err)
	}
}

// TestEveryFieldIsAFlag walks the struct: setting a field by its flag must change that field.
func TestEveryFieldIsAFlag(t *testing.T) {
	count := func(v reflect.Type) int {
		n := 0
		var walk func(reflect.Type)
		walk = func(v reflect.Type) {
			for i := range v.NumField() {
				if v.Field(i).Type.Kind() == reflect.Struct {
					walk(v.Field(i).Type)
					continue
				}
				n++
			}
		}
		walk(v)
		return n
	}(reflect.TypeFor[Config]())
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	c := Default()
	Bind(fs, c)
	flags := 0
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Name == ConfigFlag {
			return
		}
		flags++
		before, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Value.Set("4321"); err != nil {
			t.Fatalf("--%s: %v", f.Name, err)
		}
		after, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if string(before) == string(after) {
			t.Errorf("--%s changes nothing", f.Name)
		}
	})
	if flags != count {
		t.Errorf("%d flags for %d fields", flags, count)
	}
}

func TestServedRecord(t *testing.T) {
	c, err := load(t, "", "--data-dir="+t.TempDir(), "--advertise-address=192.0.2.1", "--name=n")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ServedGateway(c.DataDir); err == nil {
		t.Fatal("a directory that nothing was served from has no gateway")
	}
	for range 2 {
		if err := SaveServed(c); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := ServedGateway(c.DataDir); err != nil || got != "192.0.2.1:6444" {
		t.Fatalf("gateway %q, %v", got, err)
	}
	if got := ServedKubeconfig(c.DataDir); got != c.Kubeconfig {
		t.Fatalf("kubeconfig %q, want %q", got, c.Kubeconfig)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("securePort: 1\netcd: {endpoints: [a]}")
	f.Add("{}")
	f.Add("a: &a [*a]")
	f.Fuzz(func(t *testing.T, text string) {
		c := Default()
		if Parse([]byte(text), c) != nil {
			return
		}
		rendered, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		again := Default()
		if err := Parse(rendered, again); err != nil {
			t.Fatalf("%v in what was rendered:\n%s", err, rendered)
		}
		if !same(c, again) {
			t.Fatalf("%+v\n%+v", c, again)
		}
		_ = c.Complete() // must not panic, whatever the values
	})
}

// same compares with nil and empty lists taken as equal.
func same(a, b *Config) bool {
	x, errA := a.YAML()
	y, errB := b.YAML()
	empty := strings.NewReplacer("null", "[]")
	return errA == nil && errB == nil && empty.Replace(string(x)) == empty.Replace(string(y))
}
