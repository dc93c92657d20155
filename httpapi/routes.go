package httpapi

import (
	"encoding/json"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"

	"github.com/quiescehq/quiesce/api"
)

const (
	get    = http.MethodGet
	post   = http.MethodPost
	put    = http.MethodPut
	remove = http.MethodDelete
)

// routes is the API.
func (s *Server) routes() {
	plain(s, get, "/healthz", "health.live", s.healthz)
	plain(s, get, "/readyz", "health.ready", s.readyz)

	plain(s, get, "/v1/cluster", "cluster.get", s.cluster)
	plain(s, remove, "/v1/cluster/nodes/{id}", "cluster.remove", s.removeNode)
	plain(s, post, "/v1/cluster/transfer", "cluster.transfer", s.transfer)
	download(s, backupPath, "cluster.backup", s.backup)
	upload(s, restorePath, "cluster.restore", s.restore)
	plain(s, get, "/v1/sources", "sources.list", s.sources)
	plain(s, get, "/v1/targets", "targets.list", s.targets)

	endpoint(post, "/v1/sessions", s.openSession())
	endpoint(remove, "/v1/sessions/{id}", s.closeSession())
	plain(s, post, "/v1/sessions/keepalive", "sessions.keepalive", s.keepaliveSessions)
	item(s, "/v1/sessions/{id}", "sessions.get", s.findSession)
	collection(s, "/v1/sessions", "sessions.list", "sessions", s.listSessions)

	plain(s, post, "/v1/batch", "batch", s.batch)

	s.acquireOp().withBatch("")
	plain(s, post, "/v1/locks/acquire", api.OpAcquire, s.acquire)
	endpoint(post, "/v1/locks/release", s.releaseLock())
	endpoint(post, "/v1/locks/cancel", s.cancelWait())
	endpoint(post, "/v1/locks/downgrade", s.downgradeLock())
	endpoint(post, "/v1/locks/handoff", s.handOffLock())
	endpoint(post, "/v1/locks/revoke", s.revokeLock())
	endpoint(post, "/v1/locks/force-release", s.forceReleaseLock())
	plain(s, post, "/v1/locks/validate", "locks.validate", s.validateLock)
	plain(s, get, "/v1/locks/deadlocks", "locks.deadlocks", s.listDeadlocks)
	collection(s, "/v1/locks", "locks.list", "locks", s.listLocks)

	s.campaignOp().withBatch("")
	plain(s, post, "/v1/elections/campaign", api.OpCampaign, s.campaign)
	endpoint(post, "/v1/elections/proclaim", s.proclaim())
	endpoint(post, "/v1/elections/resign", s.resign())
	plain(s, get, "/v1/elections", "elections.get", s.getElection)

	collection(s, "/v1/audit", "audit.list", "acts", listAudit)

	endpoint(put, "/v1/services/{name}", s.putService())
	endpoint(remove, "/v1/services/{name}", s.deleteService())
	item(s, "/v1/services/{name}", "services.get", findService)
	collection(s, "/v1/services", "services.list", "services", listServices)

	endpoint(post, "/v1/instances", s.registerInstance())
	endpoint(post, "/v1/instances/{id}/ready", instanceSays(s, api.OpInstanceReady, instanceReady))
	endpoint(post, "/v1/instances/{id}/drain", instanceSays(s, api.OpDrainInstance, drainInstance))
	endpoint(post, "/v1/instances/{id}/phase", instanceSays(s, api.OpReportPhase, s.reportPhase))
	endpoint(post, "/v1/instances/{id}/pause", instanceSays(s, api.OpPauseInstance, pauseInstance))
	endpoint(post, "/v1/instances/{id}/resume", instanceSays(s, api.OpResumeInstance, resumeInstance))
	endpoint(post, "/v1/instances/{id}/undo", instanceSays(s, api.OpUndoDrain, undoDrain))
	endpoint(post, "/v1/instances/{id}/drained", instanceSays(s, api.OpInstanceDrained, instanceDrained))
	endpoint(post, "/v1/instances/{id}/left", instanceSays(s, api.OpInstanceLeft, instanceLeft))
	plain(s, post, "/v1/instances/{id}/keepalive", "instances.keepalive", s.keepaliveInstance)
	item(s, "/v1/instances/{id}", "instances.get", s.findInstance)
	collection(s, "/v1/instances", "instances.list", "instances", s.listInstances)

	s.newPlanOp().withBatch("")
	plain(s, post, "/v1/plans", api.OpNewPlan, s.newPlan)
	endpoint(post, "/v1/plans/{id}/start", s.planSays(api.OpStartPlan, startPlan))
	endpoint(post, "/v1/plans/{id}/pause", s.planSays(api.OpPausePlan, pausePlan))
	endpoint(post, "/v1/plans/{id}/resume", s.planSays(api.OpResumePlan, resumePlan))
	endpoint(post, "/v1/plans/{id}/cancel", s.planSays(api.OpCancelPlan, cancelPlan))
	item(s, "/v1/plans/{id}", "plans.get", findPlan)
	collection(s, "/v1/plans", "plans.list", "plans", listPlans)

	endpoint(post, "/v1/cleanups", s.newCleanup())
	endpoint(post, "/v1/cleanups/{id}/cancel", s.cancelCleanup())
	item(s, "/v1/cleanups/{id}", "cleanups.get", findCleanup)
	collection(s, "/v1/cleanups", "cleanups.list", "cleanups", listCleanups)

	plain(s, get, "/v1/transactions", "transactions.list", s.transactions)
	plain(s, post, "/v1/transactions/{id}/kill", "transactions.kill", s.killTransaction)

	endpoint(put, "/v1/mappings/{name}", s.putMapping())
	endpoint(remove, "/v1/mappings/{name}", s.deleteMapping())
	item(s, "/v1/mappings/{name}", "mappings.get", findMapping)
	plain(s, post, "/v1/mappings/{name}/check", "mappings.check", s.checkMapping)
	collection(s, "/v1/mappings", "mappings.list", "mappings", listMappings)

	endpoint(post, "/v1/outbox/events", s.enqueueEvents())
	endpoint(post, "/v1/outbox/prepare", s.prepareEvents())
	endpoint(post, "/v1/outbox/prepared/{id}/submit", s.endPrepared(api.OpSubmitPrepared, api.PreparedSubmitted, submitPrepared))
	endpoint(post, "/v1/outbox/prepared/{id}/cancel", s.endPrepared(api.OpCancelPrepared, api.PreparedCanceled, cancelPrepared))
	collection(s, "/v1/outbox/prepared", "outbox.prepared", "prepared", listPrepared)
	endpoint(post, "/v1/outbox/pause", s.pauseOutbox())
	endpoint(post, "/v1/outbox/resume", s.resumeOutbox())
	plain(s, post, "/v1/outbox/dead/replay", "outbox.replay", s.replayDead)
	plain(s, post, "/v1/outbox/dead/discard", "outbox.discard", s.discardDead)
	plain(s, post, "/v1/outbox/nudge", "outbox.nudge", s.nudge)
	plain(s, post, "/v1/outbox/wait", "outbox.wait", s.waitEvent)
	plain(s, get, "/v1/outbox/stats", "outbox.stats", s.outboxStats)
	collection(s, "/v1/outbox/events", "outbox.list", "events", s.listEvents)
	collection(s, "/v1/outbox/dead", "outbox.dead", "dead", listDead)

	plain(s, post, "/v1/keys/check", "keys.check", s.checkKey)
	plain(s, get, "/v1/keys/timeline", "keys.timeline", s.keyTimeline)

	endpoint(post, "/v1/passes", s.startPass())
	endpoint(post, "/v1/passes/{id}/pause", s.passSays(api.OpPausePass, pausePass))
	endpoint(post, "/v1/passes/{id}/resume", s.passSays(api.OpResumePass, resumePass))
	endpoint(post, "/v1/passes/{id}/cancel", s.passSays(api.OpCancelPass, cancelPass))
	endpoint(post, "/v1/passes/{id}/approve", s.approvePass())
	item(s, "/v1/passes/{id}", "passes.get", s.findPass)
	item(s, "/v1/passes/{id}/differences", "passes.differences", findDifferences)
	collection(s, "/v1/passes", "passes.list", "passes", s.listPasses)

	endpoint(put, "/v1/mappings/{name}/schedule", s.putSchedule())
	endpoint(remove, "/v1/mappings/{name}/schedule", s.deleteSchedule())
	item(s, "/v1/mappings/{name}/schedule", "schedules.get", findSchedule)
	collection(s, "/v1/schedules", "schedules.list", "schedules", listSchedules)
}

// build makes the router around the routes.
func (s *Server) build() error {
	gin.SetMode(gin.ReleaseMode)
	s.engine = gin.New()
	s.engine.HandleMethodNotAllowed = true
	s.engine.RedirectTrailingSlash = false
	if err := s.engine.SetTrustedProxies(nil); err != nil {
		return err
	}
	s.engine.Use(s.count, s.recover, s.headers, s.limits, s.body, s.forward.handle, s.fast)
	s.engine.NoRoute(func(c *gin.Context) { problem(api.CodeNotFound, "no such path").write(c) })
	s.engine.NoMethod(func(c *gin.Context) {
		problem(api.CodeMethodNotAllowed, "the path has other methods, see Allow").write(c)
	})

	s.huma = humagin.New(s.engine, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI:    "3.1.0",
			Info:       &huma.Info{Title: "Quiesce", Version: s.cfg.Version, Description: "Locks, shutdown and cache synchronisation, in one replicated log."},
			Components: &huma.Components{Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)},
		},
		Formats:                      map[string]huma.Format{api.ContentJSON: huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat}, // "json" for problem+json
		DefaultFormat:                api.ContentJSON,
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{s.transform},
	})
	s.huma.UseMiddleware(s.exchange)
	s.routes()
	return s.describe()
}

// describe serves what is not JSON of a type: the metrics, and the document over all the rest.
func (s *Server) describe() error {
	for path, about := range map[string]string{"/metrics": "Prometheus metrics", "/openapi.json": "This document"} {
		op := s.spec(get, path, "health."+path[1:])
		op.Responses["200"] = &huma.Response{Description: about}
		s.huma.OpenAPI().AddOperation(&op)
	}
	s.huma.OpenAPI().AddOperation(s.observeSpec())
	// huma notes its own error type for every operation; no answer has it, see transform.
	delete(s.schemas().Map(), "ErrorModel")
	delete(s.schemas().Map(), "ErrorDetail")
	document, err := json.Marshal(s.huma.OpenAPI())
	if err != nil {
		return err
	}
	s.engine.GET(observePath, s.observe)
	s.engine.GET("/metrics", gin.WrapH(s.metrics.handler()))
	s.engine.GET("/openapi.json", func(c *gin.Context) { c.Data(http.StatusOK, "application/openapi+json", document) })
	return nil
}

func (s *Server) schemas() huma.Registry { return s.huma.OpenAPI().Components.Schemas }

func (s *Server) problemSchema() *huma.Schema {
	return s.schemas().Schema(reflect.TypeFor[api.Problem](), true, "Problem")
}
