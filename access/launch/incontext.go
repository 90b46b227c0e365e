package launch

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"tombolo/access"
	"tombolo/access/provider"
	"tombolo/access/token"
)

// PathPointer is where those lead who follow a pointer of the National Record Locator to this record, followed by the pointer's id.
const PathPointer = "/launch/nrl/"

// believer is whoever can say whether a token holds, and how. One of three parts is a signed statement of the provider that it names, and never anything else: a forged one is
// not shown to anybody. Others say nothing by themselves, and their provider is asked.
func believer(from *provider.Set, raw string) (*provider.Provider, func(context.Context, string, time.Duration, ...string) (*token.Claims, error), error) {
	if strings.Count(raw, ".") == 2 {
		p, err := from.Of(raw)
		if err != nil {
			return nil, nil, err
		}
		return p, p.VerifyLaunch, nil
	}
	p, err := from.Opaque()
	if err != nil {
		return nil, nil, err
	}
	return p, p.IntrospectLaunch, nil
}

// InContext believes the token with which somebody follows a pointer of the National Record Locator ("Direct using In-Context"), once: a statement signed by a provider of the
// region file that launches so (launch_scope), made for this node or for this one pointer, that bears that scope, holds for minutes and has an id; or an opaque token of which that provider, asked, says as much. Who it is about is read as of those who sign in there.
// The error is for the log, and holds nothing of the token.
func (r *Reader) InContext(ctx context.Context, from *provider.Set, raw, pointer string) (who access.Principal, signedIn time.Time, err error) {
	if from == nil {
		return who, signedIn, errors.New("no provider is registered")
	}
	p, verify, err := believer(from, raw)
	if err != nil {
		return who, signedIn, err
	}
	if p.LaunchScope == "" {
		return who, signedIn, errors.New("nobody is launched by tokens of this provider")
	}
	c, err := verify(ctx, raw, Lifetime, r.m.Issuer(), r.m.Issuer()+PathPointer+pointer)
	if err != nil {
		return who, signedIn, forged("", err)
	}
	if !slices.Contains(strings.Fields(c.Text("scope")), p.LaunchScope) {
		return who, signedIn, errors.New("the token does not bear the scope with which a record is opened")
	}
	first, err := r.m.State().Once(ctx, "in-context "+p.ID+" "+c.ID, c.Expires.Add(token.Skew))
	if err != nil {
		return who, signedIn, err
	}
	if !first {
		return who, signedIn, errors.New("the token was used before")
	}
	who, err = p.Principal(c)
	return who, c.Issued, err
}
