package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"coracle/controlplane/auth/bootstrap"
	"coracle/controlplane/config"
	"coracle/controlplane/pki"
)

// tokenTimeout bounds a token command: the API is on this machine or near, and a person waits.
const tokenTimeout = 30 * time.Second

// What "token create" prints.
const (
	printCommand = "command"
	printToken   = "token"
	printCAHash  = "ca-hash"
)

func newToken() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Create, list and delete the tokens that nodes join with",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{errors.New("say what to do with tokens: create, list or delete")}
		},
	}
	cmd.AddCommand(newTokenCreate(), newTokenList(), newTokenDelete())
	return cmd
}

func newTokenCreate() *cobra.Command {
	cfg := config.Default()
	var ttl time.Duration
	var show, description, gateway string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create a join token and print the command to run on the node",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if show != printCommand && show != printToken && show != printCAHash {
				return usageError{fmt.Errorf("--print %q: say %s, %s or %s", show, printCommand, printToken, printCAHash)}
			}
			if ttl < 0 {
				return usageError{fmt.Errorf("--ttl %s: must not be negative (0 means for ever)", ttl)}
			}
			if gateway != "" {
				if _, _, err := net.SplitHostPort(gateway); err != nil {
					return usageError{fmt.Errorf("--server: %w", err)}
				}
			}
			return createToken(cmd.Context(), cmd.OutOrStdout(), cfg, show, ttl, description, gateway)
		},
	}
	config.BindData(cmd.Flags(), cfg)
	cmd.Flags().DurationVar(&ttl, "ttl", 24*time.Hour, "how long the token may be used; 0 means for ever")
	cmd.Flags().StringVar(&show, "print", printCommand, "what to print: command, token, or ca-hash (which creates no token)")
	cmd.Flags().StringVar(&description, "description", "", "what the token is for")
	cmd.Flags().StringVar(&gateway, "server", "", "HOST:PORT of the gateway in the printed command (default: as the last serve advertised it)")
	return cmd
}

func createToken(ctx context.Context, w io.Writer, cfg *config.Config, show string, ttl time.Duration, description, gateway string) error {
	rc, err := adminConfig(cfg)
	if err != nil {
		return err
	}
	hash, err := pki.HashCA(rc.CAData)
	if err != nil {
		return fmt.Errorf("read the cluster CA from the admin kubeconfig: %w", err)
	}
	if show == printCAHash {
		fmt.Fprintln(w, hash)
		return nil
	}
	if gateway == "" && show == printCommand {
		if gateway, err = config.ServedGateway(cfg.DataDir); err != nil {
			return fmt.Errorf("find the gateway's address: %w (or give --server HOST:PORT)", err)
		}
	}
	return withStore(ctx, rc, func(ctx context.Context, store bootstrap.Store) error {
		token, err := store.Create(ctx, ttl, description, time.Now())
		if err != nil {
			return err
		}
		if show == printToken {
			fmt.Fprintln(w, token.Text())
			return nil
		}
		fmt.Fprintf(w, "coracle-agent join --server %s --token %s --ca-hash %s\n", gateway, token.Text(), hash)
		return nil
	})
}

func newTokenList() *cobra.Command {
	cfg := config.Default()
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the join tokens, without their secrets",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			rc, err := adminConfig(cfg)
			if err != nil {
				return err
			}
			return withStore(cmd.Context(), rc, func(ctx context.Context, store bootstrap.Store) error {
				infos, err := store.List(ctx)
				if err != nil {
					return err
				}
				return printTokens(cmd.OutOrStdout(), infos, time.Now())
			})
		},
	}
	config.BindData(cmd.Flags(), cfg)
	return cmd
}

func printTokens(out io.Writer, infos []bootstrap.Info, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "ID\tTTL\tEXPIRES\tUSAGES\tDESCRIPTION")
	for _, info := range infos {
		ttl, expires := "<forever>", "<never>"
		if !info.Expires.IsZero() {
			ttl, expires = "<expired>", info.Expires.UTC().Format(time.RFC3339)
			if left := info.Expires.Sub(now); left > 0 {
				ttl = duration.HumanDuration(left)
			}
		}
		if info.Problem != "" {
			ttl = "<invalid: " + info.Problem + ">"
		}
		description := info.Description
		if description == "" {
			description = "<none>"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", info.ID, ttl, expires, strings.Join(info.Usages, ","), description)
	}
	return w.Flush()
}

func newTokenDelete() *cobra.Command {
	cfg := config.Default()
	cmd := &cobra.Command{
		Use:   "delete ID...",
		Short: "Delete join tokens; nodes that joined already stay",
		Args:  usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var ids []string
			for _, arg := range args {
				id, err := bootstrap.ParseID(arg)
				if err != nil {
					return usageError{err}
				}
				ids = append(ids, id)
			}
			rc, err := adminConfig(cfg)
			if err != nil {
				return err
			}
			return withStore(cmd.Context(), rc, func(ctx context.Context, store bootstrap.Store) error {
				var errs []error
				for _, id := range ids {
					if err := store.Delete(ctx, id); err != nil {
						errs = append(errs, err)
						continue
					}
					fmt.Fprintf(cmd.OutOrStdout(), "token %s deleted\n", id)
				}
				return errors.Join(errs...)
			})
		},
	}
	config.BindData(cmd.Flags(), cfg)
	return cmd
}

// adminConfig loads the admin kubeconfig that serve wrote.
func adminConfig(cfg *config.Config) (*rest.Config, error) {
	path := cfg.Kubeconfig
	if path == "" {
		path = config.ServedKubeconfig(cfg.DataDir)
	}
	rc, err := clientcmd.BuildConfigFromFlags("", path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no admin kubeconfig at %s: start the control plane once (coracle-controlplane serve), "+
			"or give --data-dir or --kubeconfig", path)
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("read the admin kubeconfig: %w (run as root)", err)
	case err != nil:
		return nil, fmt.Errorf("read the admin kubeconfig %s: %w", path, err)
	}
	return rc, nil
}

// withStore calls f with a client and a deadline, and says what to do about the errors that a person meets.
func withStore(ctx context.Context, rc *rest.Config, f func(context.Context, bootstrap.Store) error) error {
	client, err := kubernetes.NewForConfig(rc)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	err = f(ctx, bootstrap.Store{Client: client})
	var dial *net.OpError
	var foreign *tls.CertificateVerificationError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &foreign), apierrors.IsUnauthorized(err), apierrors.IsForbidden(err):
		return fmt.Errorf("%w\nthe kubeconfig does not belong to this cluster, or the cluster was set up anew since", err)
	case errors.As(err, &dial):
		return fmt.Errorf("%w\nnothing answers at %s: is the control plane running? start it with: coracle-controlplane serve", err, rc.Host)
	}
	return err
}
