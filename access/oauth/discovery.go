package oauth

import (
	"context"
	"net/http"

	"github.com/zitadel/oidc/v3/pkg/op"

	"tombolo/access/token"
	"tombolo/fhir"
)

// Discovery is /.well-known/openid-configuration. OpenID Connect Discovery §3
func (s *Server) Discovery(context.Context, *op.Request[struct{}]) (*op.Response, error) {
	d := s.configuration()
	d["userinfo_endpoint"] = s.m.Issuer() + pathUserinfo
	d["subject_types_supported"] = []string{"public"}
	d["id_token_signing_alg_values_supported"] = []string{"RS256"}
	d["claims_supported"] = []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "name", "fhirUser"}
	d["response_modes_supported"] = []string{"query"}
	d["request_parameter_supported"] = false
	d["request_uri_parameter_supported"] = false
	return op.NewResponse(d), nil
}

// configuration is what both documents tell. Each line is something that is there.
func (s *Server) configuration() map[string]any {
	at := s.m.Issuer()
	algorithms := make([]string, len(token.Algorithms))
	for i, a := range token.Algorithms {
		algorithms[i] = string(a)
	}
	return map[string]any{
		"issuer": at, "jwks_uri": at + pathKeys, "authorization_endpoint": at + PathAuthorize, "token_endpoint": at + pathToken,
		"introspection_endpoint": at + pathIntrospect, "revocation_endpoint": at + pathRevoke,
		"grant_types_supported":                            []string{"authorization_code", "refresh_token", "client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"},
		"response_types_supported":                         []string{"code"},
		"code_challenge_methods_supported":                 []string{"S256"},
		"token_endpoint_auth_methods_supported":            []string{"none", "private_key_jwt"},
		"token_endpoint_auth_signing_alg_values_supported": algorithms,
		"authorization_response_iss_parameter_supported":   true,
		"scopes_supported": []string{"openid", "profile", "fhirUser", "launch", "launch/patient", "offline_access", "online_access",
			"patient/*.rs", "user/*.rs", "system/*.rs", "system/*.cruds"},
	}
}

// smartConfiguration is /.well-known/smart-configuration. SMART App Launch 2.2 conformance.html#using-well-known
func (s *Server) smartConfiguration(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET is offered", http.StatusMethodNotAllowed)
		return
	}
	d := s.configuration()
	d["capabilities"] = []string{"launch-ehr", "launch-standalone", "authorize-post", "client-public", "client-confidential-asymmetric", "sso-openid-connect",
		"context-banner", "context-ehr-patient", "context-standalone-patient", "permission-offline", "permission-online", "permission-patient", "permission-user", "permission-v1", "permission-v2"}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(fhir.JSON(d))
}

// Keys are this node's public keys. RFC 7517
func (s *Server) Keys(ctx context.Context, _ *op.Request[struct{}]) (*op.Response, error) {
	set, err := s.m.Ring().Public(ctx)
	if err != nil {
		return nil, serverError(err)
	}
	return op.NewResponse(set), nil
}
