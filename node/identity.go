package node

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/rs/cors"

	"tombolo/access"
	"tombolo/access/launch"
	"tombolo/access/oauth"
	"tombolo/access/provider"
	"tombolo/connector"
	"tombolo/region"
	"tombolo/web"
)

// sweepEvery is how often what getting in no longer needs is forgotten.
const sweepEvery = 10 * time.Minute

// issuer is this node's own base URL, by which it signs: as the region file or the command line says, else where it listens.
func (n *Node) issuer() string {
	if said := cmp.Or(n.c.Region.Identity.Issuer, strings.TrimSuffix(strings.TrimRight(n.c.Base, "/"), "/fhir")); said != "" {
		return strings.TrimRight(said, "/")
	}
	scheme := "http://"
	if n.c.TLS.Cert != "" {
		scheme = "https://"
	}
	return scheme + n.Addr()
}

// sweeper forgets sessions and tokens that are over.
func (n *Node) sweeper() keeper {
	return keeper{sweepEvery, "forget sessions that are over", func(ctx context.Context) error {
		_, err := n.Access.State().Sweep(ctx)
		return err
	}}
}

// signIns makes the ways in beside the region file's own users.
func (n *Node) signIns(o *web.Options) {
	o.SignIns = provider.New(provider.Options{Region: n.c.Region, Secret: n.secretAt, HTTP: n.client(), Now: n.c.Now})
	o.Launches = launch.New(n.Access, n.secretAt)
	o.Pointer = n.pointedTo
	o.Apps = oauth.New(oauth.Options{Access: n.Access, Providers: o.SignIns})
}

// secretAt reads a secret from where the region file says that it is.
func (n *Node) secretAt(place string) (string, error) {
	if strings.Contains(place, "/") {
		place = n.path(place)
	}
	return provider.Secrets(n.c.Secret)(place)
}

// authorisation mounts the authorisation server; the page that asks the user is one of web's.
func (n *Node) authorisation(mux *http.ServeMux, s *oauth.Server, pages http.Handler) {
	mux.Handle("/oauth/", crossOrigin(s, s))
	mux.Handle(oauth.PathConsent, pages)
	mux.Handle("GET "+oauth.PathAuthorize, crossOrigin(s, pages)) // whose refusals people read
	for _, path := range []string{"/.well-known/openid-configuration", "/.well-known/smart-configuration", "/fhir/.well-known/smart-configuration"} {
		mux.Handle("GET "+path, crossOrigin(s, s))
	}
}

// crossOrigin lets the scripts of registered applications ask, and nobody else's. No cookie goes with what they ask: they send a token.
func crossOrigin(s *oauth.Server, next http.Handler) http.Handler {
	return cors.New(cors.Options{AllowOriginFunc: s.Origins, AllowedMethods: []string{"GET", "HEAD", "POST"}, AllowedHeaders: []string{"Authorization", "Content-Type", "Accept", "Prefer", "X-Request-Id"},
		ExposedHeaders: []string{"ETag", "Content-Location", "X-Request-Id"}, MaxAge: 600}).Handler(next)
}

// asserting makes what signs for this node's users when a neighbour is asked that says who it is; nil for one that does not.
func (n *Node) asserting(nb region.Neighbour) func(context.Context, connector.Requester) (string, error) {
	typ, audience := access.AssertionType, nb.Issuer
	if nb.Kind != region.KindTombolo {
		if nb.Assertion.As == "" {
			return nil
		}
		typ, audience = "JWT", cmp.Or(nb.Assertion.Audience, nb.Address)
	}
	if audience == "" {
		return nil
	}
	return func(ctx context.Context, who connector.Requester) (string, error) {
		return n.Access.Assert(ctx, typ, audience, who.UserID, map[string]any{"subject_name": who.UserName, "subject_role": who.Role, "subject_organization": who.OrgName,
			"subject_organization_id": who.OrganisationODS, "purpose_of_use": who.Purpose, "home_community_id": n.c.Region.ID}, who.Activities)
	}
}
