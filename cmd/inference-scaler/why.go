package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/inference-scaler/inference-scaler/scaler/explain"
)

// maxExplanation limits the response, in bytes.
const maxExplanation = 64 << 20

func whyCommand() *cobra.Command {
	var address, output string
	cmd := &cobra.Command{
		Use:   "why [NAMESPACE[/NAME]]",
		Short: "Explain the decisions of a running scaler",
		Long: "Explain the decisions of a running scaler: the inputs, the rules, and the reaction of\n" +
			"the HPA. The argument selects one ScaledObject or a namespace; the default is all.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("--output: %q; wanted: text or json", output)
			}
			namespace, name := "", ""
			if len(args) == 1 {
				namespace, name, _ = strings.Cut(args[0], "/")
			}
			body, err := fetchWhy(cmd.Context(), address, namespace, name)
			if err != nil {
				return err
			}
			if output == "json" {
				_, err = cmd.OutOrStdout().Write(body)
				return err
			}
			var all []explain.Explanation
			if err := json.Unmarshal(body, &all); err != nil {
				return fmt.Errorf("%s: not the response of an inference-scaler: %w", address, err)
			}
			return explain.Text(cmd.OutOrStdout(), all)
		},
	}
	cmd.Flags().StringVar(&address, "address", "http://127.0.0.1:8080", "address of the scaler's HTTP listener")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func fetchWhy(ctx context.Context, address, namespace, name string) ([]byte, error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	query := url.Values{"namespace": {namespace}, "name": {name}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(address, "/")+"/api/v1/why?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxExplanation))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		var failure struct{ Error string }
		if json.Unmarshal(body, &failure) == nil && failure.Error != "" {
			return nil, errors.New(failure.Error)
		}
		return nil, fmt.Errorf("%s: HTTP status %d", address, resp.StatusCode)
	}
	return body, nil
}
