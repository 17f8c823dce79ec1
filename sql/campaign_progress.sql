-- How far a campaign is.
--
-- in   app_id, campaign_id text
-- out  at most one row; at: the database's time; rates from 0 to 1, NULL where there is no call yet
SELECT clock_timestamp() AS at, app_id, campaign_id, name, status, total, active, completed, failed, answered,
       completed_rate::float8 AS completed_rate, failed_rate::float8 AS failed_rate, ended_rate::float8 AS ended_rate,
       planned_calls, created_at, completed_at
  FROM campaign_progress
 WHERE app_id = %(app_id)s AND campaign_id = %(campaign_id)s;
