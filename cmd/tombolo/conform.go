package main

import (
	"encoding/json"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"tombolo/conform"
)

func conformCommand() *cobra.Command {
	var token string
	var asJSON bool
	c := &cobra.Command{
		Use:   "conform URL",
		Short: "Try what a FHIR R4 server can do, and say what it lacks",
		Long: "Asks a FHIR R4 server for its capability statement and tries the interactions, a table of searches and a table of errors. It writes a few\n" +
			"resources whose ids begin with conform- and deletes them: use it on a server that holds no real records.",
		Example: "  tombolo conform http://127.0.0.1:8080/fhir\n" +
			"  tombolo conform --token EPR_TOKEN https://record.example.nhs.uk/fhir     the token is in that environment variable",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o := conform.Options{URL: args[0]}
			if token != "" {
				if o.Token = os.Getenv(token); o.Token == "" {
					return usagef("there is nothing in the environment variable %s", token)
				}
			}
			report, err := conform.Run(c.Context(), o)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(c.OutOrStdout())
				enc.SetIndent("", "  ")
				err = enc.Encode(report)
			} else {
				err = report.Write(c.OutOrStdout())
			}
			if err == nil && report.Count(conform.Fails) > 0 {
				err = errors.New("the server does what R4 does not: see what FAILS above")
			}
			return err
		},
	}
	c.Flags().StringVar(&token, "token", "", "the environment variable that holds the access token")
	c.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return c
}
