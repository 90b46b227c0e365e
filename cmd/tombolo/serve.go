package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"tombolo/node"
	"tombolo/pki"
	"tombolo/region"
)

const storeHelp = "a PostgreSQL database instead, postgres://user@host/database (the password from PGPASSWORD or ~/.pgpass, where others on the machine do not see it)"

func serveCommand() *cobra.Command {
	var regionFile, data, store, listen, base, devUser, systems string
	var files pki.Files
	var dev, verbose bool
	c := &cobra.Command{
		Use:   "serve --region FILE --data DIR",
		Short: "Run a region",
		Example: "  tombolo serve --region region.yaml --data /var/lib/tombolo\n" +
			"  tombolo serve --region region.yaml --store postgres://tombolo@db.example/tombolo     on a database, with as many nodes as you like\n" +
			"  tombolo serve --region region.yaml --data data --tls-cert node.pem --tls-key node.key\n" +
			"      --systems :8443 --client-ca authorities.pem --client-crl revoked.pem     systems ask by mutual TLS, GP Connect among what they may ask\n" +
			"  tombolo serve --region region.yaml --data data --dev     loopback only, nobody signs in",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, folder, err := mustRegion(c, regionFile)
			if err != nil {
				return err
			}
			if data == "" && store == "" {
				return usagef("where is the data to be kept? Give --data DIR, or --store postgres://…")
			}
			cfg := node.Config{Region: r, Folder: folder, File: regionFile, Data: data, Store: store, Listen: listen, Systems: systems, TLS: files, Base: base, Version: version, Feeds: true,
				Logger: newLogger(c.ErrOrStderr(), verbose)}
			if dev {
				if devUser == "" {
					if len(r.Users) == 0 {
						return usagef("--dev acts as a user of the region file, and it has none: add one under users")
					}
					devUser = r.Users[0].ID
				}
				cfg.Dev = devUser
				fmt.Fprintf(c.ErrOrStderr(), "\n*** DEVELOPER MODE: NOBODY SIGNS IN. Every request acts as %q. Loopback only. Never with real records. ***\n\n", devUser)
			}
			if err := node.Durable(cfg); err != nil {
				return err
			}
			n, err := node.New(c.Context(), cfg)
			if err != nil {
				return err
			}
			defer n.Close()
			scheme := "http"
			if files.Cert != "" {
				scheme = "https"
			}
			fmt.Fprintf(c.OutOrStdout(), "%s is at %s://%s (FHIR at /fhir, record at /record, operators at /desk)\n", r.Name, scheme, n.Addr())
			if at := n.SystemsAddr(); at != "" {
				fmt.Fprintf(c.OutOrStdout(), "systems ask at https://%s by mutual TLS (FHIR at /fhir%s)\n", at, gpConnectAt(r))
			}
			return n.Run(c.Context())
		},
	}
	f := c.Flags()
	f.StringVar(&regionFile, "region", "", "the region file")
	f.StringVar(&data, "data", "", "the folder in which everything is kept")
	f.StringVar(&store, "store", "", storeHelp)
	f.StringVar(&listen, "listen", "127.0.0.1:8080", "address of the web pages and the API")
	f.StringVar(&files.Cert, "tls-cert", "", "this node's certificate with its chain, a PEM file: everything is then HTTPS. Read again when it changes, as are the next three")
	f.StringVar(&files.Key, "tls-key", "", "its private key, a PEM file")
	f.StringVar(&systems, "systems", "", "address on which systems ask, each known by its client certificate")
	f.StringVar(&files.CA, "client-ca", "", "with --systems: the authorities that issue the systems' certificates, a PEM file")
	f.StringVar(&files.CRL, "client-crl", "", "with --systems: their revocation lists; if given, an authority without a list in date is not believed")
	f.StringVar(&base, "base", "", "public base URL of the FHIR API, if it is not what clients send")
	f.BoolVar(&dev, "dev", false, "no sign-in, on loopback only")
	f.StringVar(&devUser, "as", "", "with --dev: the user every request acts as (the first of the region file)")
	f.BoolVar(&verbose, "verbose", false, "log more than what needs acting on")
	return c
}

func gpConnectAt(r *region.Region) string {
	if r.GPConnect.Organisation == "" {
		return ""
	}
	return ", GP Connect at " + node.GPConnectRoot(r)
}
