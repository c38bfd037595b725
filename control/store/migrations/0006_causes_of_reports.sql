-- The cause of a report, so that the database counts the reports of each cause. An older report has its cause at the start of
-- its JSON.

ALTER TABLE resources ADD COLUMN cause TEXT;
UPDATE resources SET cause = COALESCE((SELECT column1 FROM (VALUES
    ('connection-refused'), ('connect-timeout'), ('name-not-resolved'), ('private-address'), ('bad-url'),
    ('timeout'), ('connection-lost'), ('too-many-redirects'), ('not-http'), ('tls-to-plain-http'),
    ('tls-unknown-issuer'), ('tls-failed'), ('answered-401'), ('answered-403'), ('answered-404'), ('answered-405'),
    ('redirected-to-get'), ('answered-415'), ('answered-5xx'), ('answered-400'), ('answered-other'),
    ('empty-answer'), ('html-answer'), ('json-answer'), ('content-type'), ('not-xml'), ('wrong-root'),
    ('other-provider'), ('script-syntax'), ('script-invalid'), ('too-large'), ('document-loop'), ('script-work'),
    ('script-step'), ('script-unanswered'), ('unknown-markup'), ('not-served'), ('media-missing'),
    ('media-unusable'), ('no-voice'), ('stt-off'), ('stt-failed'), ('model-failed'), ('tool-failed'),
    ('agent-unknown'), ('recording-failed'), ('codec-unknown'), ('address-family'), ('srtp-mismatch'), ('no-audio'),
    ('audio-stopped'), ('audio-from-elsewhere'), ('media-address-refused'), ('stream-refused'), ('stream-timeout'),
    ('stream-handshake'), ('stream-protocol'), ('stream-broken'), ('stream-closed'), ('stream-scheme'),
    ('stream-message'), ('stream-internal'), ('unknown-number'), ('wrong-sip-password'), ('access-token'),
    ('stranger'), ('no-trunk'), ('trunk-silent'), ('trunk-refused'), ('trunk-unreachable'), ('trunk-tls'),
    ('trunk-down'), ('registrar-silent'), ('trunk-not-registered'), ('trunk-full'), ('certificate-expires'),
    ('signing-certificate'), ('phone-not-registered'), ('callee-refused'), ('foreign-caller-id'),
    ('caller-not-verified'), ('call-limit'), ('transfer-failed'), ('far-end-lost'), ('media-connection-failed'),
    ('siprec-failed'), ('conference-refused'), ('queue-refused'), ('call-failed'), ('wrong-credentials'),
    ('api-request-refused'), ('unused-parameter'), ('database-not-writable'), ('database-lock-lost'), ('media-full'),
    ('read-limit'), ('disk-slow'), ('recordings-disk-full'), ('shutdown'), ('crash')
    ) AS causes WHERE resources.details LIKE '{"cause":"' || column1 || '",%'), 'other') WHERE kind = 'report';
CREATE INDEX resources_by_cause ON resources (account, cause, created_at, id, name) WHERE cause IS NOT NULL;
