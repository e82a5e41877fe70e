package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Bounds of a projected token's life in seconds.
const (
	minTokenSeconds = 10 * 60
	maxTokenSeconds = 1 << 32
)

// validateProjections judges the sources of a projected volume, whose files must
// not have the same path.
func validateProjections(list []corev1.VolumeProjection, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	taken := sets.New[string]()
	claim := func(path, owner string) {
		if path == "" {
			return
		}
		if taken.Has(path) {
			errs = append(errs, field.Invalid(at, owner, "conflicting duplicate paths"))
		}
		taken.Insert(path)
	}
	for i := range list {
		src, path := &list[i], at.Child("sources").Index(i)
		count := 0
		if s := src.Secret; s != nil {
			count++
			errs = append(errs, required(s.Name, path.Child("secret", "name"))...)
			errs = append(errs, validateItems(s.Items, path.Child("secret", "items"))...)
			for _, k := range s.Items {
				claim(k.Path, s.Name)
			}
		}
		if c := src.ConfigMap; c != nil {
			count++
			errs = append(errs, required(c.Name, path.Child("configMap", "name"))...)
			errs = append(errs, validateItems(c.Items, path.Child("configMap", "items"))...)
			for _, k := range c.Items {
				claim(k.Path, c.Name)
			}
		}
		if d := src.DownwardAPI; d != nil {
			count++
			for j := range d.Items {
				errs = append(errs, validateDownwardFile(&d.Items[j], path.Child("downwardAPI"))...)
				claim(d.Items[j].Path, "downwardAPI")
			}
		}
		if t := src.ServiceAccountToken; t != nil {
			count++
			errs = append(errs, validateTokenProjection(t, path.Child("serviceAccountToken"))...)
			claim(t.Path, "serviceAccountToken")
		}
		if b := src.ClusterTrustBundle; b != nil {
			count++
			errs = append(errs, validateBundleProjection(b, path.Child("clusterTrustBundle"))...)
			claim(b.Path, "clusterTrustBundle")
		}
		if c := src.PodCertificate; c != nil {
			count++
			errs = append(errs, validateCertificateProjection(c, path.Child("podCertificate"))...)
			for _, p := range []string{c.CredentialBundlePath, c.KeyPath, c.CertificateChainPath} {
				claim(p, "podCertificate")
			}
		}
		if count > 1 {
			errs = append(errs, field.Forbidden(path, "may not specify more than 1 volume type per source"))
		}
	}
	return errs
}

func validateTokenProjection(t *corev1.ServiceAccountTokenProjection, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s := t.ExpirationSeconds; s != nil {
		if *s < minTokenSeconds {
			errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *s, "may not specify a duration less than 10 minutes"))
		}
		if *s > maxTokenSeconds {
			errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *s, "may not specify a duration larger than 2^32 seconds"))
		}
	}
	errs = append(errs, requiredFilePath(t.Path, at.Child("path"))...)
	return append(errs, validateFileUser(t.User, at.Child("user"))...)
}

func validateBundleProjection(b *corev1.ClusterTrustBundleProjection, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	byName, bySigner := b.Name != nil, b.SignerName != nil
	switch {
	case byName && bySigner:
		errs = append(errs, field.Invalid(at, "", "only one of name and signerName may be used"))
	case byName:
		errs = append(errs, required(*b.Name, at.Child("name"))...)
		if b.LabelSelector != nil {
			errs = append(errs, field.Invalid(at.Child("labelSelector"), b.LabelSelector, "may only be used with signerName"))
		}
	case bySigner:
		errs = append(errs, required(*b.SignerName, at.Child("signerName"))...)
		errs = append(errs, validateSelector(b.LabelSelector, at.Child("labelSelector"))...)
	default:
		errs = append(errs, field.Required(at, "either name or signerName must be specified"))
	}
	errs = append(errs, requiredFilePath(b.Path, at.Child("path"))...)
	return append(errs, validateFileUser(b.User, at.Child("user"))...)
}

// certificateKeyTypes are the kinds of keys made for pod certificates.
var certificateKeyTypes = []string{"RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"}

// Bounds of a pod certificate's life in seconds.
const (
	minCertificateSeconds = 60 * 60
	maxCertificateSeconds = 91 * 24 * 60 * 60
)

func validateCertificateProjection(c *corev1.PodCertificateProjection, at *field.Path) field.ErrorList {
	errs := required(c.SignerName, at.Child("signerName"))
	errs = append(errs, oneOf(c.KeyType, at.Child("keyType"), certificateKeyTypes...)...)
	if s := c.MaxExpirationSeconds; s != nil && (*s < minCertificateSeconds || *s > maxCertificateSeconds) {
		errs = append(errs, field.Invalid(at.Child("maxExpirationSeconds"), *s, validation.InclusiveRangeError(minCertificateSeconds, maxCertificateSeconds)))
	}
	set := 0
	for _, p := range []struct{ name, path string }{
		{"credentialBundlePath", c.CredentialBundlePath}, {"keyPath", c.KeyPath}, {"certificateChainPath", c.CertificateChainPath},
	} {
		if p.path != "" {
			set++
			errs = append(errs, validateFilePath(p.path, at.Child(p.name))...)
		}
	}
	if set == 0 {
		errs = append(errs, field.Required(at, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"))
	}
	return append(errs, validateFileUser(c.User, at.Child("user"))...)
}
