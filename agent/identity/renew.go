package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coracle/internal/fault"
	nodev1 "coracle/proto/node/v1"
)

// ErrRefused says that the server will not have this node's certificate: it is of another
// cluster, has expired too long ago, or the node was removed. Only a new join helps.
var ErrRefused = errors.New("the server refuses this node's certificate")

// Renew exchanges key and certificate for new ones over a connection made with the ones in
// use. Connections that stand go on; new ones use the new pair.
func (i *Identity) Renew(ctx context.Context, client nodev1.EnrollmentClient) error {
	csr, keyPEM, err := newRequest(i.NodeName())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, enrollTimeout)
	defer cancel()
	answer, err := client.Renew(ctx, &nodev1.RenewRequest{Csr: csr})
	if err != nil {
		return fmt.Errorf("renew the node's certificate: %w", Refusal(err))
	}
	if err := i.save(i.NodeName(), keyPEM, answer.GetCertificate(), answer.GetCa()); err != nil {
		return fmt.Errorf("renew the node's certificate: %w", err)
	}
	i.log.Info("certificate renewed", "node", i.NodeName(), "until", i.NotAfter().Format(time.RFC3339))
	return nil
}

// Refusal gives an error of any call the class that decides whether to try again, and
// makes it ErrRefused where the certificate itself was turned down.
func Refusal(err error) error {
	s, ok := status.FromError(err)
	if !ok {
		return fault.As(fault.ErrUnavailable, err)
	}
	switch s.Code() {
	case codes.Unauthenticated, codes.PermissionDenied:
		return fault.As(fault.ErrInvalid, fmt.Errorf("%w: %s; to join again: coracle-agent join", ErrRefused, s.Message()))
	case codes.InvalidArgument:
		return fault.As(fault.ErrInvalid, errors.New(s.Message()))
	case codes.NotFound:
		return fault.As(fault.ErrNotFound, errors.New(s.Message()))
	}
	return fault.As(fault.ErrUnavailable, errors.New(s.Message()))
}
