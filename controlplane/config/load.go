package config

import (
	"fmt"
	"os"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// Load finishes c after fs was parsed: lays the file under the flags, infers what is missing and validates. c must be the
// Config that fs was bound to. An error names the file or the field and says what would be right.
func Load(fs *pflag.FlagSet, c *Config) error {
	path, err := fs.GetString(ConfigFlag)
	if err != nil {
		return err
	}
	if path != "" {
		given := changed(fs)
		text, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read config file: %w", err)
		}
		*c = *Default()
		if err := Parse(text, c); err != nil {
			return fmt.Errorf("config file %s: %w", path, err)
		}
		if err := apply(fs, given); err != nil {
			return err
		}
	}
	return c.Complete()
}

// Parse reads YAML into c. Keys that no field has, and keys given twice, are errors; fields that are not in the text keep
// their value.
func Parse(text []byte, c *Config) error {
	return yaml.UnmarshalStrict(text, c)
}

// YAML renders c as a file that Parse reads back to the same.
func (c *Config) YAML() ([]byte, error) { return yaml.Marshal(c) }
