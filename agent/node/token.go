package node

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"coracle/agent/store"
	"coracle/agent/volume"
	nodev1 "coracle/proto/node/v1"
)

// bucketTokens holds one token for each pod and audience.
const bucketTokens = "tokens"

// tokens asks the control plane for service-account tokens and keeps the first of each on disk.
//
// Volumes with tokens are in memory. After a power cut with no control plane in reach a pod
// would not start for want of a file that, offline, nobody can accept anyway; the kept token,
// expired as it may be, stands in until a new one can be had. Only the first is written, so that renewals write nothing.
type tokens struct {
	ask   func(context.Context, *nodev1.TokenRequest) (*nodev1.TokenResponse, error)
	facts *store.Store
	log   *slog.Logger
}

type keptToken struct {
	Token   string `json:"token"`
	Expires int64  `json:"expires"`
}

// Token gives a new token, or the kept one where none can be had now.
func (t *tokens) Token(ctx context.Context, r volume.TokenRequest) (volume.Token, error) {
	key := tokenKey(r)
	answer, err := t.ask(ctx, &nodev1.TokenRequest{
		Namespace: r.Namespace, ServiceAccount: r.ServiceAccount, PodName: r.PodName, PodUid: string(r.PodUID),
		Audiences: r.Audiences, ExpirationSeconds: r.ExpirationSeconds,
	})
	if err != nil {
		kept, ok := t.kept(key)
		if !ok {
			return volume.Token{}, err
		}
		t.log.Debug("kept token in use", "pod", r.Namespace+"/"+r.PodName, "err", err)
		return kept, nil
	}
	got := volume.Token{Token: answer.GetToken(), Expires: time.Unix(answer.GetExpirationUnix(), 0)}
	if _, ok := t.facts.Fact(bucketTokens, key); ok {
		return got, nil
	}
	data, err := json.Marshal(keptToken{Token: got.Token, Expires: got.Expires.Unix()})
	if err == nil {
		err = t.facts.PutSecretFact(bucketTokens, key, data)
	}
	if err != nil {
		// The pod has its token; only a start without a control plane would miss the copy.
		t.log.Warn("token not kept", "pod", r.Namespace+"/"+r.PodName, "err", err)
	}
	return got, nil
}

func (t *tokens) kept(key string) (volume.Token, bool) {
	data, ok := t.facts.Fact(bucketTokens, key)
	if !ok {
		return volume.Token{}, false
	}
	var k keptToken
	if err := json.Unmarshal(data, &k); err != nil || k.Token == "" {
		return volume.Token{}, false
	}
	return volume.Token{Token: k.Token, Expires: time.Unix(k.Expires, 0)}, true
}

// Run forgets the tokens of pods that are gone, until ctx ends.
func (t *tokens) Run(ctx context.Context) error {
	changes := t.facts.Watch()
	defer t.facts.Unwatch(changes)
	for {
		select {
		case <-ctx.Done():
			return nil
		case c, ok := <-changes:
			if !ok {
				return nil // the store was closed: the agent ends
			}
			if podGone := c.Removed && c.Kind == store.KindPod; !c.All && !c.Completed && !podGone {
				continue
			}
		}
		if err := t.forget(); err != nil {
			t.log.Warn("tokens of pods that are gone", "err", err)
		}
	}
}

func (t *tokens) forget() error {
	if !t.facts.Complete() {
		return nil
	}
	assigned := map[string]bool{}
	for _, o := range t.facts.Objects(store.KindPod) {
		assigned[o.UID] = true
	}
	var gone []string
	for key := range t.facts.Facts(bucketTokens) {
		uid, _, _ := strings.Cut(key, "/")
		if !assigned[uid] {
			gone = append(gone, key)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	if err := t.facts.DeleteFact(bucketTokens, gone...); err != nil {
		return fmt.Errorf("forget tokens: %w", err)
	}
	return nil
}

func tokenKey(r volume.TokenRequest) string {
	return string(r.PodUID) + "/" + strings.Join(r.Audiences, ",")
}
