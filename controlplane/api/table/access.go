package table

import (
	"reflect"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

func lower(s string) string { return strings.ToLower(s) }

// cutLast cuts s at the last sep.
func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func accessPrinters() map[reflect.Type]printer {
	created := metav1.TableColumnDefinition{Name: "Created At", Type: "date", Description: describe("creationTimestamp")}
	bindings := columns(nameColumn, text("Role"), ageColumn, wide("Users"), wide("Groups"), wide("ServiceAccounts"))
	return map[reflect.Type]printer{
		typeOf[rbacv1.Role](): of(columns(nameColumn, created), func(o *rbacv1.Role, _ time.Time) []any {
			return []any{o.Name, o.CreationTimestamp.UTC().Format(time.RFC3339)}
		}),
		typeOf[rbacv1.ClusterRole](): of(columns(nameColumn, created), func(o *rbacv1.ClusterRole, _ time.Time) []any {
			return []any{o.Name, o.CreationTimestamp.UTC().Format(time.RFC3339)}
		}),
		typeOf[rbacv1.RoleBinding](): of(bindings, func(o *rbacv1.RoleBinding, now time.Time) []any {
			return append([]any{o.Name, o.RoleRef.Kind + "/" + o.RoleRef.Name, age(o, now)}, subjectCells(o.Subjects)...)
		}),
		typeOf[rbacv1.ClusterRoleBinding](): of(bindings, func(o *rbacv1.ClusterRoleBinding, now time.Time) []any {
			return append([]any{o.Name, o.RoleRef.Kind + "/" + o.RoleRef.Name, age(o, now)}, subjectCells(o.Subjects)...)
		}),
		typeOf[certificatesv1.CertificateSigningRequest](): of(columns(nameColumn, ageColumn, text("SignerName"), text("Requestor"),
			text("RequestedDuration"), text("Condition")), requestCells),
	}
}

// subjectCells are users, groups and service accounts, each in a cell.
func subjectCells(subjects []rbacv1.Subject) []any {
	var users, groups, accounts []string
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.UserKind:
			users = append(users, s.Name)
		case rbacv1.GroupKind:
			groups = append(groups, s.Name)
		case rbacv1.ServiceAccountKind:
			accounts = append(accounts, s.Namespace+"/"+s.Name)
		}
	}
	return []any{strings.Join(users, ", "), strings.Join(groups, ", "), strings.Join(accounts, ", ")}
}

func requestCells(o *certificatesv1.CertificateSigningRequest, now time.Time) []any {
	approved, denied, failed := false, false, false
	for _, c := range o.Status.Conditions {
		switch c.Type {
		case certificatesv1.CertificateApproved:
			approved = true
		case certificatesv1.CertificateDenied:
			denied = true
		case certificatesv1.CertificateFailed:
			failed = true
		}
	}
	condition := "Pending"
	switch {
	case denied:
		condition = "Denied"
	case approved:
		condition = "Approved"
	}
	if failed {
		condition += ",Failed"
	}
	if len(o.Status.Certificate) > 0 {
		condition += ",Issued"
	}
	wanted := none
	if o.Spec.ExpirationSeconds != nil {
		wanted = duration.HumanDuration(time.Duration(*o.Spec.ExpirationSeconds) * time.Second)
	}
	return []any{o.Name, age(o, now), or(o.Spec.SignerName, none), o.Spec.Username, wanted, condition}
}
